/* Hypercalls: a const table by number. Arguments are checked (vmm/hcdecode.h) before a handler runs. */
#pragma once

#include "vmm/exit.h"

enum exit_action hypercall_exit(struct vcpu *v);
