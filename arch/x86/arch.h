/* Entry points between arch and vmm's main. */
#pragma once

#include "boot/handoff.h"

/* vmm/main.c: never returns. Called by arch once tables, exceptions, UART and clock work. `h` is
 * arch's own copy; the modules it names are still in place (type HANDOFF_MEM_MODULE). */
_Noreturn void hv_main(const struct handoff *h, const struct handoff_mem *map);
