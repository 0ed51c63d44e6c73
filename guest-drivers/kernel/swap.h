/* The swap area: pages of processes on the disk. */
#pragma once

#include "guest-drivers/kernel/slots.h"
#include "guest-drivers/kernel/vm.h"

struct swap_counters {
	uint64_t in_pages, out_pages, clean_drops, zero_drops;
};

void swap_init(void); /* after disk_init(), before page_init_done() */
uint32_t swap_total(void);
uint32_t swap_free(void);
const struct swap_counters *swap_counters(void);

/* Waits until the entry's slot is not being written any more. By the process itself. */
void swap_wait(const uint64_t *pte);
/* Brings page `index` of the process back, with neighbours where memory is plenty. */
enum fault_result swap_in(struct proc *proc, uint32_t index);
void swap_give(uint32_t slot); /* preempt_off */

/* Pages on their way out: unmapped, BUSY, each with a slot that is marked as being written. */
struct swap_batch {
	uint32_t count;
	uint32_t page[16];
};
enum swap_add { SWAP_FREED, SWAP_QUEUED, SWAP_FULL };
/*
 * `page` is ANON and off the LRU: drops it if its content is on the disk or zero, else unmaps it and
 * queues it for writing. SWAP_FULL: nothing changed. Preemption off.
 */
enum swap_add swap_out_add(struct swap_batch *b, uint32_t page);
/* Writes the batch, frees what was written; returns how many. A page that could not be written is
 * mapped again. Preemption on. */
uint32_t swap_out_write(struct swap_batch *b);
