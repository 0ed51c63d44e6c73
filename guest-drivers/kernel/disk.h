/* The guest's disk: a superblock page, a swap area, one file area. In pages of 4 KiB. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/abi/aerostat.h"

#define DISK_BATCH 16u
#define PAGE_SECTORS 8u

struct disk_layout {
	uint64_t magic;
	uint32_t version;
	uint32_t swap_first, swap_pages; /* the superblock is page 0 */
	uint32_t file_first, file_pages;
	uint32_t file_written; /* pages of the file area that hold data, from the first on */
	uint64_t seed;         /* of the file's content */
	uint64_t sector_count;
};

struct disk_counters {
	uint64_t reads, writes, errors; /* pages, pages, requests */
};

/* Finds the disk, and reads or makes the superblock. `swap_pages`: wanted. False: no disk. */
bool disk_init(uint32_t swap_pages);
const struct disk_layout *disk_layout(void); /* all 0 without a disk */
const struct disk_counters *disk_counters(void);

/* Page `count` transfers; false if any failed (each request has its status). */
bool disk_io(struct aero_block_req *reqs, uint32_t count);
void disk_request(struct aero_block_req *r, enum aero_block_op op, uint32_t disk_page, uint32_t page);
/* The file grew to `pages`: kept in the superblock. */
void disk_file_written(uint32_t pages);
