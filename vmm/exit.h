/* What happens after a vCPU stops running: a const table by virt_exit_kind. */
#pragma once

#include "vmm/guest.h"

enum exit_action {
	EXIT_RESUME,  /* enter it again at once */
	EXIT_YIELD,   /* its turn is over; if it is still RUNNING it goes to the end of the queue */
	EXIT_GIVE_WAY, /* the same, but another vCPU of its guest gets its place: sched_spins() */
	EXIT_HALT,    /* it sleeps until it has work */
	EXIT_WAIT,    /* it waits for memory */
	EXIT_DISK,    /* it waits for its turn at the disk */
};

typedef enum exit_action (*exit_fn)(struct vcpu *v);
extern const exit_fn exit_table[VIRT_EXIT_COUNT];
