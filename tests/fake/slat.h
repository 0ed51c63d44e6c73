/* The hosted second level: two formats, a flush that checks, host RAM in an array. */
#pragma once

#include "mm/p2m.h"

extern const struct slat_format fake_ept, fake_npt, fake_npt_no_exec;
extern const struct slat_format *slat_format; /* fake_ept until set */

extern uint64_t fake_flush_count;
/* Called by slat_flush() if set. */
extern void (*fake_flush_hook)(struct slat_space *s);

/*
 * A fresh machine: `pages` frames of RAM at mfn 1024 on, filled with a pattern, all in the buddy,
 * directmap_offset set. The one before it is dropped. No pool yet: frame_pool_init() is the
 * caller's.
 */
void fake_machine(uint64_t pages);
#define FAKE_MFN_BASE 1024u

/* What a guest's access sees, through the second level as the processor walks it: NULL on a fault.
 */
void *fake_guest_access(struct p2m *p, gpa_t gpa, uint32_t access);
