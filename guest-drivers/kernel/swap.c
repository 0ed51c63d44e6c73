/* Paging out and in. */
#include "guest-drivers/kernel/swap.h"

#include "guest-drivers/kernel/disk.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"

#define READ_AROUND 8u
_Static_assert(DISK_BATCH == 16, "struct swap_batch");

/* Preemption off. `writing`: one bit a slot, set while a batch with it is under way. */
static struct slots slots;
static uint64_t *writing;
static struct swap_counters counters;

void swap_init(void)
{
	uint32_t count = disk_layout()->swap_pages;
	uint64_t words = slots_bitmap_words(count);
	uint64_t *maps = count ? page_early(words * 16) : NULL;

	slots_init(&slots, maps, maps ? count : 0);
	writing = maps ? maps + words : NULL;
}

uint32_t swap_total(void)
{
	return slots.count;
}

uint32_t swap_free(void)
{
	return slots.free;
}

const struct swap_counters *swap_counters(void)
{
	return &counters;
}

static bool is_writing(uint32_t slot)
{
	return writing[slot / 64] >> slot % 64 & 1;
}

static void set_writing(uint32_t slot, bool on)
{
	if (on)
		writing[slot / 64] |= 1ull << slot % 64;
	else
		writing[slot / 64] &= ~(1ull << slot % 64);
}

void swap_give(uint32_t slot)
{
	slots_give(&slots, slot);
}

void swap_wait(const uint64_t *pte)
{
	for (;;) {
		uint64_t e = *(const volatile uint64_t *)pte;

		if (!pte_is_swapped(e) || !is_writing(pte_slot(e)))
			return;
		sched_sleep_ns(NS_PER_MS);
	}
}

static uint32_t disk_page_of(uint32_t slot)
{
	return disk_layout()->swap_first + slot;
}

/* The faulting page has a page already; adds neighbours that follow it in its table. */
static uint32_t gather_around(struct vm *vm, uint32_t index, uint32_t *pages, uint32_t *slot_of)
{
	uint32_t n = 1;
	uint64_t *pte = vm_pte(vm, index);

	for (; n < READ_AROUND && (index + n) % 512 && index + n < vm->brk; n++) {
		uint64_t e = pte[n];

		if (!pte_is_swapped(e) || is_writing(pte_slot(e)))
			break;
		slot_of[n] = pte_slot(e);
		pages[n] = page_alloc(0, PAGE_NO_WAIT, NULL);
		if (pages[n] == NO_PAGE)
			break;
	}
	return n;
}

static void install(struct proc *proc, uint32_t index, uint32_t page, uint32_t slot, bool asked)
{
	uint64_t flags = asked ? PTE_ACCESSED : 0;

	preempt_off();
	if (asked && slots.free < slots.count / 4) { /* full soon: the disk's copy goes, the page is dirty */
		slots_give(&slots, slot);
		flags |= PTE_DIRTY;
	} else {
		memory.pages[page].slot = slot + 1;
	}
	proc->vm.swapped--;
	vm_install(proc, index, page, flags);
	preempt_on();
}

enum fault_result swap_in(struct proc *proc, uint32_t index)
{
	struct aero_block_req reqs[READ_AROUND];
	uint32_t pages[READ_AROUND], slot_of[READ_AROUND];
	enum fault_result result = FAULT_DONE;

	slot_of[0] = pte_slot(*vm_pte(&proc->vm, index));
	pages[0] = page_alloc(0, PAGE_MAY_WAIT, NULL);
	if (pages[0] == NO_PAGE)
		return FAULT_NO_MEMORY;
	uint32_t n = gather_around(&proc->vm, index, pages, slot_of);

	for (uint32_t i = 0; i < n; i++)
		disk_request(&reqs[i], AERO_BLOCK_READ, disk_page_of(slot_of[i]), pages[i]);
	disk_io(reqs, n);
	for (uint32_t i = 0; i < n; i++) {
		if (reqs[i].status) {
			page_free(pages[i], 0);
			if (i == 0)
				result = FAULT_IO;
			continue;
		}
		install(proc, index + i, pages[i], slot_of[i], i == 0);
		counters.in_pages++;
	}
	pressure_swapped_in(n);
	return result;
}

enum swap_add swap_out_add(struct swap_batch *b, uint32_t page)
{
	struct page *d = &memory.pages[page];
	struct vm *vm = &proc_by_index(d->owner)->vm;
	uint64_t *pte = vm_pte(vm, d->index);
	/* Nobody writes to it from here on, and what was written is known. */
	uint64_t old = __atomic_exchange_n(pte, 0, __ATOMIC_SEQ_CST);

	vm_flush(vm, d->index);
	bool dirty = old & PTE_DIRTY;

	if (!dirty && !d->slot) { /* never written: zero */
		counters.zero_drops++;
	} else {
		uint32_t slot = d->slot ? d->slot - 1 : slots_take(&slots);

		if (slot == NO_SLOT) {
			*pte = old;
			return SWAP_FULL;
		}
		*pte = pte_swapped(slot);
		vm->swapped++;
		if (dirty) {
			d->slot = slot + 1;
			d->state = PAGE_BUSY;
			set_writing(slot, true);
			b->page[b->count++] = page;
		} else {
			counters.clean_drops++;
		}
	}
	vm->rss--;
	if (d->state == PAGE_BUSY)
		return SWAP_QUEUED;
	buddy_free(&memory, page, 0);
	return SWAP_FREED;
}

static void put_back(uint32_t page)
{
	struct page *d = &memory.pages[page];
	struct proc *proc = proc_by_index(d->owner);

	slots_give(&slots, d->slot - 1);
	d->slot = 0;
	proc->vm.swapped--;
	vm_install(proc, d->index, page, PTE_DIRTY | PTE_ACCESSED);
}

uint32_t swap_out_write(struct swap_batch *b)
{
	struct aero_block_req reqs[DISK_BATCH];
	uint32_t freed = 0;

	for (uint32_t i = 0; i < b->count; i++)
		disk_request(&reqs[i], AERO_BLOCK_WRITE, disk_page_of(memory.pages[b->page[i]].slot - 1),
			     b->page[i]);
	disk_io(reqs, b->count);
	preempt_off();
	for (uint32_t i = 0; i < b->count; i++) {
		uint32_t page = b->page[i];

		set_writing(memory.pages[page].slot - 1, false);
		if (reqs[i].status) {
			put_back(page);
			continue;
		}
		buddy_free(&memory, page, 0);
		counters.out_pages++;
		freed++;
	}
	preempt_on();
	b->count = 0;
	return freed;
}
