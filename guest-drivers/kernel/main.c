/* Boot: from the entry state of docs/abi.md to the shell. */
#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/cache.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/disk.h"
#include "guest-drivers/kernel/fdt.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"
#include "guest-drivers/kernel/smp.h"
#include "guest-drivers/kernel/swap.h"
#include "guest-drivers/kernel/timer.h"

#define TREE_ROOM 0x8000u /* the builder keeps it below 64 KiB */
#define SWAP_RATIO 2u

void kernel_main(const void *tree);

static struct fdt_facts facts; /* set once at boot */

void kernel_main(const void *tree)
{
	cpu_init(0);
	if (!hv_init())
		for (;;)
			__asm__ volatile("cli; hlt"); /* nobody to tell */
	const char *wrong = fdt_read(tree, TREE_ROOM, &facts);

	if (wrong)
		panic("device tree: %s", wrong);
	if (facts.memory_base)
		panic("memory starts at 0x%lx, not at 0", facts.memory_base);
	page_init(facts.memory_bytes);
	vm_kernel_init();
	timer_init();
	sched_init();
	bool disk = disk_init(memory_pages * SWAP_RATIO);

	swap_init();
	cache_init();
	ballooning_reserve();
	page_init_done();
	reclaim_init();
	int64_t r = hypercall(AERO_HC_EVENT_SETUP, VECTOR_EVENT, 0, 0);

	if (r)
		panic("no event interrupt (%ld)", r);
	shell_init(facts.bootargs, facts.name);
	ballooning_init();
	if (!shell_quiet())
		print("guest kernel: %u KiB, %u KiB free, %s, swap %u KiB, file %u KiB\n", memory_pages * 4,
		      memory.free_pages * 4, disk ? "disk" : "no disk", swap_total() * 4,
		      disk_layout()->file_pages * 4);
	if (!shell_has_word("up"))
		smp_init();
	ballooning_event(AERO_EVENT_CONSOLE); /* a first look at the target */
	sched_idle();
}
