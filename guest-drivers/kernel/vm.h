/*
 * Address spaces. The kernel's half is PML4 slot 0: all memory one to one, the image in 4 KiB pages
 * with the rights its sections need. A process has 1 GiB in slot 1: a stack of 60 KiB, then its heap.
 */
#pragma once

#include "guest-drivers/kernel/base.h"

#define USER_BASE (1ull << 39)
#define USER_SPACE_PAGES (1u << 18)
#define USER_STACK_FIRST 1u /* page 0 stays unmapped */
#define USER_HEAP_FIRST 16u
#define USER_STACK_TOP (USER_BASE + USER_HEAP_FIRST * PAGE_BYTES)
#define USER_HEAP (USER_STACK_TOP)

#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITE    (1ull << 1)
#define PTE_USER     (1ull << 2)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY    (1ull << 6)
#define PTE_LARGE    (1ull << 7)
#define PTE_NX       (1ull << 63)
#define PTE_ADDRESS  0x000ffffffffff000ull
#define PTE_ANON     (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_NX)

/* A page that is not present: 0 (reads as zero), or (slot + 1) << 12 when it is on swap. */
static inline bool pte_is_swapped(uint64_t pte)
{
	return pte && !(pte & PTE_PRESENT);
}
static inline uint64_t pte_swapped(uint32_t slot)
{
	return ((uint64_t)slot + 1) << PAGE_SHIFT;
}
static inline uint32_t pte_slot(uint64_t pte)
{
	return (uint32_t)(pte >> PAGE_SHIFT) - 1;
}
static inline uint32_t pte_page(uint64_t pte)
{
	return (uint32_t)((pte & PTE_ADDRESS) >> PAGE_SHIFT);
}

/* The entries of present pages change with preemption off; the others only by the process itself. */
struct vm {
	uint64_t *pml4, *pdpt, *pd; /* NULL: none */
	uint32_t brk;     /* pages; the heap is [USER_HEAP_FIRST, brk) */
	uint32_t rss;     /* preempt_off */
	uint32_t swapped; /* preempt_off */
	uint32_t tables;  /* pages of page tables */
};

struct proc;
enum fault_result { FAULT_DONE, FAULT_OUTSIDE, FAULT_NO_MEMORY, FAULT_IO };

/* Page tables of the kernel's own; turns NX and WP on. */
void vm_kernel_init(void);
bool vm_create(struct vm *vm);
/* By the process itself, or before it ever ran. */
void vm_destroy(struct vm *vm);
/* Drops what is in pages [first, end) of the space: they read as zero again. By the process itself. */
void vm_release(struct vm *vm, uint32_t first, uint32_t end);
/* The entry, or NULL if there is no table for it yet. */
uint64_t *vm_pte(const struct vm *vm, uint32_t index);
enum fault_result vm_fault(struct proc *proc, uint64_t va);
bool vm_range_is_valid(const struct vm *vm, uint64_t va, uint64_t bytes);
/* NULL for the kernel's own. Interrupts or preemption off. */
/* What is kept of a vCPU: whose tables CR3 has (smp.h). */
const struct vm *vm_save(void);
void vm_load(const struct vm *vm);
void vm_leave_user(void); /* CR3 to the kernel's tables */
uint64_t vm_kernel_cr3(void);
void vm_switch(const struct vm *vm);
/* An entry of a present page has changed. */
void vm_flush(const struct vm *vm, uint32_t index);
/* Puts a filled page in: state, LRU, counts. Preemption off. */
void vm_install(struct proc *proc, uint32_t index, uint32_t page, uint64_t pte_flags);
