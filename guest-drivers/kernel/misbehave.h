/*
 * Balloon drivers as the hypervisor must expect them: the boot arguments say `balloon=WORD`. The driver
 * itself stays as it is; what it calls, and when, is changed here.
 *
 *   absent  there is no driver
 *   liar    acknowledges each target, says by turns that it is inflating and that it has nothing to
 *           give, claims that all its memory is in use, and gives nothing
 *   slow    gives four pages, then nothing for 100 ms
 *   greedy  inflates, then takes it all back with AERO_DEFLATE_URGENT and a cry for all its memory,
 *           again and again
 */
#pragma once

#include "guest-drivers/balloon/balloon.h"

/* Reads the boot arguments; the setup's callbacks become the manner's. False: there shall be no driver. */
bool misbehave_init(struct balloon_setup *setup);
/* In place of balloon_driver_work() and balloon_driver_next_ns(). */
bool misbehave_work(struct balloon_driver *d);
uint64_t misbehave_next_ns(const struct balloon_driver *d);
