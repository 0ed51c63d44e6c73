/* The `evil` command's parts. All of them are run by the shell's thread. */
#pragma once

#include "guest-drivers/kernel/base.h"
#include "vmm/abi/aerostat.h"

/* Each prints one line, "PASS name: ..." or "FAIL name: ...", and is counted until verdict(). */
void evil_begin(void);
void expect(const char *what, int64_t found, int64_t expected);
void expect_range(const char *what, struct aero_range r, uint32_t done, int status);
void verdict(const char *what);

void evil_flood(uint64_t calls);
void evil_addresses(void);
void evil_block(void);
