/*
 * Which of some pages of a guest are touched within a while: for the estimate of its working set
 * (balloon/activity.h). docs/reclaim.md, "Who uses what he has".
 *
 * Two ways. ACCESSED: the leaf's accessed bit is cleared, and read later. INVALIDATE, for processors without
 * such bits: the page is unmapped (IN_FLIGHT with a mark of its own, so that the ladder does not take it for
 * one that it holds itself); the next access maps it again.
 *
 * One CPU at a time samples a p2m (the control plane's). Nothing is lost if a sample is just forgotten in the
 * first way; in the second it has to be ended, or its pages stay unmapped until they are touched.
 */
#pragma once

#include "mm/p2m.h"

enum sample_way { SAMPLE_ACCESSED, SAMPLE_INVALIDATE };

/* What became of a page when the sample began. */
enum sample_watch {
	SAMPLE_SKIPPED, /* not watched, and does not count: the ladder holds it, it is pinned, SHARED, or named twice */
	SAMPLE_WATCHED, /* its next access will be seen */
	SAMPLE_ABSENT,  /* has no frame: touched if it comes to have one */
	SAMPLE_TAKEN,   /* cannot be watched: counts as touched */
};

struct sample_page {
	gfn_t gfn; /* inside memory */
	enum sample_watch watch;
};

#define SAMPLE_BATCH 32u /* pages under one hold of the p2m's lock, with one flush */

struct sample_result {
	uint32_t sampled, touched;
};

/* Fills in `watch` of `count` pages. May be called with SAMPLE_BATCH pages, and again with the next. */
void p2m_sample_begin(struct p2m *p, enum sample_way way, struct sample_page *pages, uint32_t count);
/* Adds what has been found so far to *out. The sample goes on. */
void p2m_sample_look(struct p2m *p, enum sample_way way, const struct sample_page *pages, uint32_t count,
	struct sample_result *out);
/* The same, and what was unmapped and not touched is mapped again. */
void p2m_sample_end(struct p2m *p, enum sample_way way, const struct sample_page *pages, uint32_t count,
	struct sample_result *out);
