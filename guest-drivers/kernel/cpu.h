/* The processor: instructions that C has no words for, selectors, the trap frame. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SEL_KERNEL_CODE 0x08
#define SEL_KERNEL_DATA 0x10
#define SEL_USER_DATA   0x1b
#define SEL_USER_CODE   0x23
#define SEL_TSS         0x28

#define RFLAGS_IF 0x200ul

#define MSR_EFER         0xc0000080u
#define EFER_NXE         (1ull << 11)
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC_EOI   0x80bu
#define MSR_X2APIC_SVR   0x80fu
#define MSR_X2APIC_IRR   0x820u /* eight of 32 vectors */
#define MSR_X2APIC_ICR   0x830u
#define MSR_X2APIC_TIMER 0x832u
#define MSR_X2APIC_SELF_IPI 0x83fu

enum vector {
	VECTOR_NMI = 2,
	VECTOR_DOUBLE_FAULT = 8,
	VECTOR_PAGE_FAULT = 14,
	VECTOR_TIMER = 32,
	VECTOR_EVENT = 33,
	VECTOR_KICK = 34,  /* from another vCPU: look up */
	VECTOR_FLUSH = 35, /* from another vCPU: smp_answer() */
	VECTOR_STUBS = 36, /* entry.S has stubs for 0..35 */
	VECTOR_SYSCALL = 0x80,
	VECTOR_SPURIOUS = 0xff,
};

/* What entry.S pushes, and the processor before it. */
struct trap_frame {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct trap_frame) == 22 * 8, "entry.S pushes this");

static inline bool trap_from_user(const struct trap_frame *f)
{
	return f->cs & 3;
}
static inline void irq_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}
static inline void irq_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}
static inline uint64_t irq_save(void)
{
	uint64_t flags;

	__asm__ volatile("pushfq; popq %0; cli" : "=r"(flags) : : "memory");
	return flags;
}
static inline void irq_restore(uint64_t flags)
{
	if (flags & RFLAGS_IF)
		irq_on();
}
static inline bool irq_is_on(void)
{
	uint64_t flags;

	__asm__ volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
	return flags & RFLAGS_IF;
}
static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}
static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline void cpuid(uint32_t leaf, uint32_t out[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(0)
			 : "memory");
}
static inline uint64_t read_cr2(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr2, %0" : "=r"(v) : : "memory");
	return v;
}
static inline uint64_t read_cr3(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr3, %0" : "=r"(v) : : "memory");
	return v;
}
static inline void write_cr3(uint64_t v)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}
static inline uint64_t read_cr0(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr0, %0" : "=r"(v) : : "memory");
	return v;
}
static inline void write_cr0(uint64_t v)
{
	__asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory");
}
static inline void invlpg(uint64_t va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

/* cpu.c: descriptor tables, and which stack traps from ring 3 use. */
void cpu_init(uint32_t id); /* on each vCPU */
void cpu_set_trap_stack(uint64_t top); /* of the vCPU that is in the kernel */
/* Which vCPU this is: each has a task state segment of its own. */
static inline uint32_t cpu_id(void)
{
	uint32_t tr;

	__asm__ volatile("str %0" : "=r"(tr));
	return (tr - SEL_TSS) / 16;
}

/* entry.S */
extern const uint64_t trap_stubs[VECTOR_STUBS];
void trap_syscall(void);
void trap_spurious(void);
/* Saves what C calls preserve on this stack, its top in *from; goes on where `to` was left. */
void stack_switch(uint64_t *from, uint64_t to);
/* First code of a thread: made by sched.c's frame. Calls fn(argument). */
void thread_begin(void);
/* Into ring 3 for good: entry(a, b, c) on stack `rsp`, returning to `back`. */
_Noreturn void user_enter(uint64_t entry, uint64_t rsp, const uint64_t args[4]);
void load_tables(const void *gdtr, const void *idtr, uint32_t tss_selector);
