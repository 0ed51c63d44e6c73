/*
 * Pure. One step of the policy as text, for the log: printed by the hypervisor, read by build/host/simulate,
 * which makes the same step again and compares. A line for the pool, one for each guest in their order,
 * one for the plan:
 *
 *	policy: step @186a0 p7800 f1200 e100 l1 t4b n2
 *	policy: guest m1000 n400 s3e8 u9c4 Fds i960
 *	policy: guest m1000 n400 s3e8 u7d0 b12c t12c Fdsp i7d0 w40
 *	policy: plan l1 s0 h5f3c0f9a7d21e0b4
 *
 * A letter and a number in hex; what has its usual value is left out. What stands before `policy: ` is
 * skipped (the log's own stamp). A field that is not known, given twice, or of no size a machine has makes the
 * line bad. Fields: policy_trace.c.
 */
#pragma once

#include "balloon/policy.h"

#define POLICY_TRACE_BYTES 480 /* no line is longer, its end included; one with usual values: below 200 */
#define POLICY_TRACE_PAGES (1ull << 40) /* of a pool or a guest, at most: what policy_step() counts with */

enum policy_trace_kind {
	POLICY_TRACE_NONE, /* a line of something else */
	POLICY_TRACE_BAD,
	POLICY_TRACE_STEP,
	POLICY_TRACE_GUEST,
	POLICY_TRACE_PLAN,
};

struct policy_trace {
	struct policy_pool pool;     /* POLICY_TRACE_STEP */
	uint64_t time_ms, guest_count;
	struct policy_guest guest;   /* POLICY_TRACE_GUEST */
	uint64_t level, spare_pages; /* POLICY_TRACE_PLAN */
	uint64_t hash;
};

/* Each writes a line without its end, terminated by 0; returns its length. */
size_t policy_trace_step(char line[POLICY_TRACE_BYTES], const struct policy_pool *pool,
	uint32_t guest_count, uint64_t time_ms);
size_t policy_trace_guest(char line[POLICY_TRACE_BYTES], const struct policy_guest *g);
size_t policy_trace_plan(char line[POLICY_TRACE_BYTES], const struct policy_plan *plan,
	uint32_t guest_count);

/* FNV-1a over every number of the plan. */
uint64_t policy_trace_hash(const struct policy_plan *plan, uint32_t guest_count);

/* `bytes` of a line, with or without its end. Only the part of *out that goes with the kind is set. */
enum policy_trace_kind policy_trace_parse(const char *line, size_t bytes, struct policy_trace *out);
