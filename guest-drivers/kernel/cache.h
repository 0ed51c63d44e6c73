/*
 * The page cache over the disk's file area: one file, pages by number. Always clean: writes go
 * through to the disk before they are done.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct proc;

void cache_init(void);
uint32_t cache_count(void);
/* Drops up to `want` unused pages; returns how many. */
uint32_t cache_reclaim(uint32_t want);
/* Page `block` of the file, pinned for `proc` until cache_unpin(); NO_PAGE: no memory, or the disk. */
uint32_t cache_get(struct proc *proc, uint32_t block);
/* The same to be overwritten wholly: not read. Then cache_write() sends it to the disk. */
uint32_t cache_get_new(struct proc *proc, uint32_t block);
bool cache_write(uint32_t page);
void cache_unpin(struct proc *proc);

struct cache_counters {
	uint64_t hits, misses, read_pages;
};
const struct cache_counters *cache_counters(void);
