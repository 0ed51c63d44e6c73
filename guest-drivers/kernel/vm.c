/* Address spaces and demand paging. */
#include "guest-drivers/kernel/vm.h"

#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/swap.h"
#include "guest-drivers/kernel/smp.h"

#define LARGE_BYTES (2ull << 20)
#define CR0_WP (1ull << 16)

extern char kernel_text[], user_text[], user_rodata[], kernel_rodata[], kernel_data[], kernel_end[];

/* Set once at boot; the entry is copied into each process's PML4. */
static uint64_t *kernel_pml4;
static const struct vm *active; /* whose tables CR3 has; NULL: the kernel's. Preemption off. */

static uint64_t image_rights(uint64_t at)
{
	if (at < PAGE_BYTES)
		return 0; /* address 0 faults */
	if (at < (uint64_t)kernel_text || at >= (uint64_t)kernel_data)
		return PTE_PRESENT | PTE_WRITE | PTE_NX;
	if (at < (uint64_t)user_text)
		return PTE_PRESENT;
	if (at < (uint64_t)user_rodata)
		return PTE_PRESENT | PTE_USER;
	if (at < (uint64_t)kernel_rodata)
		return PTE_PRESENT | PTE_USER | PTE_NX;
	return PTE_PRESENT | PTE_NX;
}

static uint64_t *early_table(void)
{
	uint64_t *t = page_early(PAGE_BYTES);

	if (!t)
		panic("no memory for the kernel's page tables");
	return t;
}

void vm_kernel_init(void)
{
	const uint64_t link = PTE_PRESENT | PTE_WRITE | PTE_USER;
	uint64_t bytes = (uint64_t)memory_pages * PAGE_BYTES;
	uint64_t *pdpt = early_table(), *low = early_table();

	kernel_pml4 = early_table();
	kernel_pml4[0] = (uint64_t)pdpt | link;
	for (uint64_t at = 0; at < bytes; at += LARGE_BYTES) {
		uint64_t gib = at >> 30;

		if (!pdpt[gib])
			pdpt[gib] = (uint64_t)early_table() | link;
		uint64_t *pd = (uint64_t *)(pdpt[gib] & PTE_ADDRESS);

		pd[at >> 21 & 511] = at | PTE_PRESENT | PTE_WRITE | PTE_LARGE | PTE_NX;
	}
	for (uint64_t at = 0; at < LARGE_BYTES; at += PAGE_BYTES)
		low[at >> PAGE_SHIFT] = image_rights(at) ? at | image_rights(at) : 0;
	((uint64_t *)(pdpt[0] & PTE_ADDRESS))[0] = (uint64_t)low | link;
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	write_cr3((uint64_t)kernel_pml4);
	write_cr0(read_cr0() | CR0_WP);
}

/* A zeroed page for a table, or NULL. */
static uint64_t *table_new(struct vm *vm)
{
	bool zero;
	uint32_t p = page_alloc(0, PAGE_MAY_WAIT, &zero);

	if (p == NO_PAGE)
		return NULL;
	if (!zero)
		memset(page_address(p), 0, PAGE_BYTES);
	vm->tables++;
	return page_address(p);
}

bool vm_create(struct vm *vm)
{
	*vm = (struct vm){ .brk = USER_HEAP_FIRST };
	vm->pml4 = table_new(vm);
	vm->pdpt = vm->pml4 ? table_new(vm) : NULL;
	vm->pd = vm->pdpt ? table_new(vm) : NULL;
	if (!vm->pd) {
		vm_destroy(vm);
		return false;
	}
	vm->pml4[0] = kernel_pml4[0];
	vm->pml4[1] = (uint64_t)vm->pdpt | PTE_PRESENT | PTE_WRITE | PTE_USER;
	vm->pdpt[0] = (uint64_t)vm->pd | PTE_PRESENT | PTE_WRITE | PTE_USER;
	return true;
}

static void table_free(uint64_t *table)
{
	if (table)
		page_free((uint32_t)((uint64_t)table >> PAGE_SHIFT), 0);
}

void vm_destroy(struct vm *vm)
{
	uint64_t *pml4 = vm->pml4;

	if (vm->pd) {
		vm_release(vm, 0, vm->brk);
		preempt_off();
		vm->pml4 = NULL; /* else the next turn of this thread would load it again, freed or not */
		if (active == vm)
			vm_switch(NULL);
		if (smp_count > 1)
			smp_flush(vm, true);
		preempt_on();
		for (uint32_t i = 0; i < 512; i++)
			if (vm->pd[i])
				table_free((uint64_t *)(vm->pd[i] & PTE_ADDRESS));
	}
	table_free(vm->pd);
	table_free(vm->pdpt);
	table_free(pml4);
	*vm = (struct vm){ 0 };
}

void vm_switch(const struct vm *vm)
{
	if (vm == active)
		return;
	active = vm;
	write_cr3(vm ? (uint64_t)vm->pml4 : (uint64_t)kernel_pml4);
}

const struct vm *vm_save(void)
{
	return active;
}

void vm_load(const struct vm *vm)
{
	active = vm;
}

void vm_leave_user(void)
{
	write_cr3((uint64_t)kernel_pml4);
}

uint64_t vm_kernel_cr3(void)
{
	return (uint64_t)kernel_pml4;
}

void vm_flush(const struct vm *vm, uint32_t index)
{
	if (vm == active)
		invlpg(USER_BASE + (uint64_t)index * PAGE_BYTES);
	if (smp_count > 1)
		smp_flush(vm, false);
}

uint64_t *vm_pte(const struct vm *vm, uint32_t index)
{
	uint64_t *table = (uint64_t *)(vm->pd[index / 512] & PTE_ADDRESS);

	return table ? table + index % 512 : NULL;
}

static uint64_t *pte_make(struct vm *vm, uint32_t index)
{
	uint64_t *pte = vm_pte(vm, index);

	if (pte)
		return pte;
	uint64_t *table = table_new(vm);

	if (!table)
		return NULL;
	vm->pd[index / 512] = (uint64_t)table | PTE_PRESENT | PTE_WRITE | PTE_USER;
	return table + index % 512;
}

static bool index_is_valid(const struct vm *vm, uint64_t index)
{
	return index >= USER_STACK_FIRST && index < vm->brk;
}

bool vm_range_is_valid(const struct vm *vm, uint64_t va, uint64_t bytes)
{
	if (!bytes)
		return true;
	return va >= USER_BASE && bytes <= (uint64_t)USER_SPACE_PAGES * PAGE_BYTES &&
	       index_is_valid(vm, (va - USER_BASE) >> PAGE_SHIFT) &&
	       index_is_valid(vm, (va + bytes - 1 - USER_BASE) >> PAGE_SHIFT);
}

void vm_release(struct vm *vm, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++) {
		uint64_t *pte = vm_pte(vm, i);

		if (!pte) {
			i |= 511; /* no table: on to the next */
			continue;
		}
		if (pte_is_swapped(*pte))
			swap_wait(pte);
		preempt_off();
		/* At once: the processor may be noting a write that another vCPU makes. */
		uint64_t old = __atomic_exchange_n(pte, 0, __ATOMIC_SEQ_CST);

		if (old & PTE_PRESENT) {
			uint32_t p = pte_page(old);

			vm_flush(vm, i);
			vm->rss--;
			anon_forget(p);
			if (memory.pages[p].slot)
				swap_give(memory.pages[p].slot - 1);
			buddy_free(&memory, p, 0);
		} else if (old) {
			vm->swapped--;
			swap_give(pte_slot(old));
		}
		preempt_on();
	}
}

void vm_install(struct proc *proc, uint32_t index, uint32_t page, uint64_t pte_flags)
{
	struct page *d = &memory.pages[page];

	d->state = PAGE_ANON;
	d->owner = proc_index(proc);
	d->index = index;
	*vm_pte(&proc->vm, index) = (uint64_t)page << PAGE_SHIFT | PTE_ANON | pte_flags;
	proc->vm.rss++;
	anon_add(page);
}

enum fault_result vm_fault(struct proc *proc, uint64_t va)
{
	uint64_t index = (va - USER_BASE) >> PAGE_SHIFT;
	struct vm *vm = &proc->vm;

	if (va < USER_BASE || !index_is_valid(vm, index))
		return FAULT_OUTSIDE;
	uint32_t i = (uint32_t)index;
	uint64_t *pte = pte_make(vm, i);

	if (!pte)
		return FAULT_NO_MEMORY;
	if (pte_is_swapped(*pte))
		swap_wait(pte); /* a failed write may have put the page back */
	if (*pte & PTE_PRESENT)
		return FAULT_DONE;
	if (*pte) {
		proc->major_faults++;
		return swap_in(proc, i);
	}
	bool zero;
	uint32_t p = page_alloc(0, PAGE_MAY_WAIT, &zero);

	if (p == NO_PAGE)
		return FAULT_NO_MEMORY;
	if (!zero)
		memset(page_address(p), 0, PAGE_BYTES);
	proc->minor_faults++;
	preempt_off();
	vm_install(proc, i, p, 0);
	preempt_on();
	return FAULT_DONE;
}
