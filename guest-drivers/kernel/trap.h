/* Exceptions, interrupts, system calls. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct trap_frame;

void trap_dispatch(struct trap_frame *f); /* from entry.S, interrupts as the gate left them */
void trap_system_call(struct trap_frame *f); /* syscall.c */
/* Is that the part of the image that processes may read? */
bool trap_is_user_image(uint64_t at, uint64_t bytes);
