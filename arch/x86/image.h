/* The image's bounds (linker.ld) and its stacks. */
#pragma once

#include "vmm/base/types.h"

extern const char image_text_start[], image_text_end[];
extern const char image_rodata_start[], image_rodata_end[];
extern const char image_data_start[], image_end[];

#define STACK_BOOT_BYTES (64 * 1024)
#define STACK_IST_BYTES  (8 * 1024)

/*
 * A CPU's stacks. Each has a page below it that paging.c leaves unmapped, so an overflow is
 * a page fault (the double-fault handler, on its own stack, then reports it) and not corruption.
 */
struct boot_stacks {
	char guard_main[PAGE_BYTES];
	char main[STACK_BOOT_BYTES];
	char guard_nmi[PAGE_BYTES];
	char nmi[STACK_IST_BYTES];
	char guard_double_fault[PAGE_BYTES];
	char double_fault[STACK_IST_BYTES];
	char guard_machine_check[PAGE_BYTES];
	char machine_check[STACK_IST_BYTES];
};
#define BOOT_STACKS_MAIN_TOP (PAGE_BYTES + STACK_BOOT_BYTES)
_Static_assert(offsetof(struct boot_stacks, main) + STACK_BOOT_BYTES == BOOT_STACKS_MAIN_TOP,
	"entry.S finds the top of the main stack by this number");

extern struct boot_stacks boot_stacks; /* the boot CPU's; paging_map_stacks() makes the others' */
#define BOOT_STACKS_GUARDS 4u
