#include "arch/x86/image.h"

/* Owner: the boot CPU. */
struct boot_stacks boot_stacks
	__attribute__((section(".bss.stacks"), aligned(PAGE_BYTES)));
