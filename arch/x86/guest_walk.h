/*
 * A guest's own page tables, walked by software: to fetch an instruction where the processor does not
 * hand it over. Permissions are not looked at: the processor has just executed there. Source: APM
 * vol. 2 "Long-Mode Page Translation".
 */
#pragma once

#include "vmm/base/types.h"

/* Reads guest-physical memory. false: it cannot be had. */
typedef bool (*guest_read_fn)(void *ctx, uint64_t gpa, void *buf, uint32_t bytes);

/* 4 levels, 4 KiB, 2 MiB and 1 GiB pages. false: not mapped, not canonical, or unreadable. */
bool guest_walk(uint64_t cr3, uint64_t gva, guest_read_fn read, void *ctx, uint64_t *gpa);

/* Copies up to `max` bytes of code at `gva`; returns how many could be had, 0 if none. At most one
 * page boundary is crossed: max <= 4096. */
uint32_t guest_fetch(uint64_t cr3, uint64_t gva, guest_read_fn read, void *ctx, uint8_t *buf,
	uint32_t max);
