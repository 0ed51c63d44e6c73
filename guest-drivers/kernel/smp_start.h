/* Memory below 64 KiB that nobody else uses (page.c): how another vCPU finds its way into the kernel. */
#pragma once

#define SMP_TABLES 0x1000 /* the builder's, still there: they map the first GiB one to one */
#define SMP_PAGE   0x6000 /* code; the vector of the start-up IPI is its page number */
#define SMP_GDT    0x6e00
#define SMP_GDTR   0x6e20
#define SMP_IDTR   0x6e30
#define SMP_STAGE  0x6f00 /* how far it is: 1 real mode, 2 64-bit mode, 3 ready */
#define SMP_COUNT  0x6f08 /* interrupts taken (smp-start) */
#define SMP_ID     0x6f10 /* its APIC's (smp-start) */
#define SMP_ENTRY  0x6f18 /* where it goes on, 0: smp-start */
#define SMP_RSP    0x6f20
#define SMP_ARG    0x6f28
#define SMP_CR3    0x6f30
#define SMP_CR0    0x6f38
#define SMP_IDT    0x7000
#define SMP_STACK  0xc000

#ifndef __ASSEMBLER__
#include <stdint.h>
/* Code and descriptors, no entry yet. */
void smp_lay_out(void);
/* For vCPU `id` to come to smp_vcpu_main() on a stack. */
void smp_prepare(uint32_t id, uint64_t rsp);
#endif
