/* Allocations that fail on request: frame_fault_set() in mm/frame.h. */
#include "mm/frame_pool.h"

/* What lies ahead of the CPUs goes back, and restock() in frame.c leaves them empty: all take the slow path. */
void frame_fault_set(uint64_t nth, uint64_t count)
{
	frame_lock_all();
	frame_pool.fault.skip = nth ? nth - 1 : 0;
	frame_pool.fault.left = count;
	frame_unlock_all();
}

void frame_fault_get(struct frame_fault *out)
{
	spin_lock(&frame_pool.lock);
	*out = frame_pool.fault;
	spin_unlock(&frame_pool.lock);
}

bool frame_fault_hit(void)
{
	struct frame_fault *f = &frame_pool.fault;

	if (f->skip) {
		f->skip--;
		return false;
	}
	f->left--;
	f->failed++;
	return true;
}
