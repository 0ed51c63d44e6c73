/* What the commands need of the console besides printing. Owner: the boot CPU. */
#pragma once

#include "vmm/guest.h"

/* From now on the operator's keys go to the guest, and its output comes to the screen. */
void console_attach(struct guest *g);
/* Waits until the port has taken all that was printed: before the machine ends. */
void console_flush(void);
