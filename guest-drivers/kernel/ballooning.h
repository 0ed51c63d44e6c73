/* Where the balloon driver lives in this kernel: its callbacks, its thread, its lock. */
#pragma once

#include "guest-drivers/balloon/balloon.h"
#include "guest-drivers/kernel/base.h"

/* Before page_init_done(): its page, ranges and bitmap. */
void ballooning_reserve(void);
/* Starts driver and thread, if the hypervisor offers a balloon. After shell_init(). */
void ballooning_init(void);
/* NULL: there is no balloon. Only between ballooning_lock() and _unlock(). */
struct balloon_driver *ballooning_lock(void);
void ballooning_unlock(void);
uint32_t ballooning_pages(void);
/* From the event's interrupt: AERO_EVENT_* bits for the thread. */
void ballooning_event(uint32_t bits);
/* Pages given back, 0 without a balloon or from within the driver. */
uint32_t ballooning_give_back(uint32_t pages);
void ballooning_pressure(enum aero_pressure level, uint32_t pages);
