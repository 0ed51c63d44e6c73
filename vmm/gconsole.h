/*
 * A guest's console: two byte rings between the guest (hypercalls) and the operator (`console`).
 * Output keeps the newest bytes (older ones are dropped and counted); input refuses when full.
 * Locks: the guest's (LOCK_RANK_GUEST), held by the caller.
 */
#pragma once

#include "vmm/base/types.h"

#define GCONSOLE_OUT_BYTES 8192u
#define GCONSOLE_IN_BYTES  1024u

struct gconsole {
	uint32_t out_head, out_tail, in_head, in_tail; /* free-running; head - tail = bytes held */
	uint64_t out_total, out_dropped;
	char out[GCONSOLE_OUT_BYTES];
	char in[GCONSOLE_IN_BYTES];
};

void gconsole_init(struct gconsole *c);
void gconsole_put(struct gconsole *c, const char *s, size_t n);     /* guest -> ring */
size_t gconsole_take(struct gconsole *c, char *buf, size_t n);      /* ring -> operator, consumes */
size_t gconsole_input(struct gconsole *c, const char *s, size_t n); /* operator -> ring; taken */
size_t gconsole_read(struct gconsole *c, char *buf, size_t n);      /* ring -> guest, consumes */
