/*
 * Pure. How many pages to scan for equal content, and when: fast as long as it pays, slow when it does not,
 * and never for more than a stated part of the time.
 *
 * The rate (pages a second) doubles when a batch of scanned pages gained at least YIELD_HIGH of them, and
 * falls by a quarter when it gained less than YIELD_LOW. A first pass over everything is done before
 * the yield can lower it: a page can only be found once its equal has been seen, so that at first there is
 * nothing to find. Cost is credited as time passes; what is spent beyond the credit is paid for by waiting.
 *
 * One owner, no lock. Times in nanoseconds of the hypervisor's clock.
 */
#pragma once

#include "vmm/base/types.h"

#define SHARE_RATE_MIN        16u    /* pages a second: a guest that begins to repeat itself is noticed */
#define SHARE_RATE_MAX        65536u
#define SHARE_RATE_FIRST      1024u
#define SHARE_RATE_STEP       64u    /* pages of one step at most */
#define SHARE_RATE_BATCH      256u   /* pages scanned between two looks at the yield */
#define SHARE_RATE_YIELD_HIGH 20u    /* permille */
#define SHARE_RATE_YIELD_LOW  5u
#define SHARE_RATE_BUDGET_PPM 10000u /* of one CPU's time, at most */

struct share_rate {
	uint32_t budget_ppm; /* constant */
	uint32_t rate;       /* pages a second */
	uint64_t first_pass; /* pages still to be scanned before the rate may fall */
	uint64_t last_ns;    /* up to when time has been credited */
	uint64_t due;        /* pages that the rate allows now, in 1 / 10^9 */
	int64_t credit_ns;   /* of cost */
	uint64_t page_ns;    /* cost of one page, smoothed, times 16 */
	uint32_t batch_scanned, batch_gained;
	/* since the start */
	uint64_t scanned, gained, spent_ns;
};

/* `pages`: how many there are to scan. budget_ppm 0: nothing is ever scanned. */
void share_rate_init(struct share_rate *r, uint32_t budget_ppm, uint64_t pages, uint64_t now_ns);

/* More to scan, a guest came: they get their first pass, too. */
void share_rate_more(struct share_rate *r, uint64_t pages);

/* How many pages to scan now, at most SHARE_RATE_STEP; 0: nothing yet. */
uint32_t share_rate_due(struct share_rate *r, uint64_t now_ns);

/* So many were scanned, so many of them became shared, in `spent_ns`. Any numbers will do. */
void share_rate_done(struct share_rate *r, uint32_t scanned, uint32_t gained, uint64_t spent_ns);
