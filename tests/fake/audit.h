/* The auditor over a test's guests. */
#pragma once

#include "mm/audit.h"

/* Runs it over `count` guests and fails the test with the first message if it finds a problem. */
void fake_audit_clean(struct p2m **guests, uint32_t count);
/* How many problems it finds; the report is in fake_audit_report. */
uint64_t fake_audit_problems(struct p2m **guests, uint32_t count);
/* A message of the last report contains `text`. */
bool fake_audit_said(const char *text);

extern struct audit_report fake_audit_report;
