/*
 * The auditor: proves where each page is. Walks every frame and every p2m: states sum to the
 * machine's RAM; each PRIVATE frame maps back to the gfn that maps it; SHARED refs equal the gfns
 * that map them; each object of the compressed store and each swap slot
 * belongs to exactly the page that names it; TABLE frames are exactly those reachable from a root; free lists
 * hold exactly the free frames; FREE frames are zero (all of them if `check_zero`); accounts and counters agree; the
 * store of compressed pages is whole (zstore_audit()).
 */
#pragma once

#include "mm/p2m.h"

#define AUDIT_MESSAGE_MAX 8

struct audit_report {
	uint64_t frames_checked, gfns_checked, problems;
	char message[AUDIT_MESSAGE_MAX][96]; /* the first problems, in words */
};

/* `p2m_at(ctx, i)` gives the i-th guest's p2m, NULL after the last. No vCPU runs meanwhile. */
void audit_run(struct p2m *(*p2m_at)(void *ctx, uint32_t i), void *ctx, bool check_zero,
	struct audit_report *out);
