/* Output when the hypervisor itself has failed: straight to COM1, no locks, no log. */
#pragma once

#include "vmm/base/types.h"

void dump_line(const char *fmt, ...) PRINTF(1, 2);
/* What looks like return addresses on the stack from `sp` up, newest first, for addr2line. */
void dump_backtrace(uint64_t sp);
/* Ends the emulator with an error, or halts. A second failure on the way halts at once. */
_Noreturn void dump_stop(void);
/* True the first time: the caller may print. False: printing has itself failed. */
bool dump_begin(void);
bool dump_has_begun(void); /* by any CPU */
