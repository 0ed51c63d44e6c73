/* Memory below 64 KiB that nobody else uses (page.c), as `smp-start` lays it out. */
#pragma once

#define SMP_TABLES 0x1000 /* the builder's, still there */
#define SMP_PAGE   0x6000 /* code; the vector of the start-up IPI is its page number */
#define SMP_GDT    0x6e00
#define SMP_GDTR   0x6e20
#define SMP_IDTR   0x6e30
#define SMP_STAGE  0x6f00 /* how far it is: 1 real mode, 2 64-bit mode, 3 ready */
#define SMP_COUNT  0x6f08 /* interrupts taken */
#define SMP_ID     0x6f10 /* its APIC's */
#define SMP_IDT    0x7000
#define SMP_STACK  0xc000
