#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/audit.h"

struct audit_report fake_audit_report;

struct guests {
	struct p2m **list;
	uint32_t count;
};

static struct p2m *guest_at(void *ctx, uint32_t i)
{
	const struct guests *g = ctx;

	return i < g->count ? g->list[i] : NULL;
}

uint64_t fake_audit_problems(struct p2m **guests, uint32_t count)
{
	struct guests g = { guests, count };

	audit_run(guest_at, &g, true, &fake_audit_report);
	return fake_audit_report.problems;
}

void fake_audit_clean(struct p2m **guests, uint32_t count)
{
	if (!fake_audit_problems(guests, count))
		return;
	for (uint32_t i = 0; i < AUDIT_MESSAGE_MAX && i < fake_audit_report.problems; i++)
		fprintf(stderr, "audit: %s\n", fake_audit_report.message[i]);
	abort();
}

bool fake_audit_said(const char *text)
{
	for (uint32_t i = 0; i < AUDIT_MESSAGE_MAX && i < fake_audit_report.problems; i++)
		if (strstr(fake_audit_report.message[i], text))
			return true;
	return false;
}
