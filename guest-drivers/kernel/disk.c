/* The block hypercalls and the superblock. */
#include "guest-drivers/kernel/disk.h"

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/hv.h"

#define DISK_MAGIC 0x6b73696474736575ull /* "uestdisk" */
#define DISK_VERSION 1u

/* The first sector of the disk as it is or will be there. Changed with the file only. */
static union {
	struct disk_layout layout;
	uint8_t sector[AERO_SECTOR_BYTES];
} super __attribute__((aligned(512)));
static struct disk_counters counters; /* hints: not locked */

const struct disk_layout *disk_layout(void)
{
	return &super.layout;
}

const struct disk_counters *disk_counters(void)
{
	return &counters;
}

void disk_request(struct aero_block_req *r, enum aero_block_op op, uint32_t disk_page, uint32_t page)
{
	*r = (struct aero_block_req){
		.sector = (uint64_t)disk_page * PAGE_SECTORS,
		.gpa = (uint64_t)page * PAGE_BYTES,
		.sectors = PAGE_SECTORS,
		.op = (uint16_t)op,
	};
}

bool disk_io(struct aero_block_req *reqs, uint32_t count)
{
	bool good = true;
	uint32_t done = 0;

	while (done < count) {
		int64_t r = hypercall(AERO_HC_BLOCK_IO, (uint64_t)(reqs + done), count - done, 0);

		if (r <= 0 || r > count - done) {
			for (; done < count; done++)
				reqs[done].status = -AERO_EIO;
			counters.errors++;
			return false;
		}
		for (; r; r--, done++) {
			if (reqs[done].status) {
				counters.errors++;
				good = false;
			}
			if (reqs[done].op == AERO_BLOCK_READ)
				counters.reads++;
			else
				counters.writes++;
		}
	}
	return good;
}

static bool super_io(enum aero_block_op op)
{
	struct aero_block_req r = { .gpa = (uint64_t)&super, .sectors = 1, .op = (uint16_t)op };

	return disk_io(&r, 1);
}

void disk_file_written(uint32_t pages)
{
	super.layout.file_written = pages;
	super_io(AERO_BLOCK_WRITE);
}

bool disk_init(uint32_t swap_pages)
{
	struct aero_block_info info = { 0 };

	if (!(hv_features() & AERO_FEAT_BLOCK) ||
	    hypercall(AERO_HC_BLOCK_INFO, (uint64_t)&info, 0, 0) || info.sector_bytes != AERO_SECTOR_BYTES)
		return false;
	uint64_t all = info.sector_count / PAGE_SECTORS;

	if (all < 16)
		return false;
	uint32_t pages = (uint32_t)MIN(all, UINT32_MAX) - 1;
	uint32_t swap = MIN(swap_pages, pages / 2);
	struct disk_layout *l = &super.layout;

	if (super_io(AERO_BLOCK_READ) && l->magic == DISK_MAGIC && l->version == DISK_VERSION &&
	    l->sector_count == info.sector_count && l->swap_pages == swap &&
	    l->file_written <= l->file_pages)
		return true;
	memset(&super, 0, sizeof(super));
	*l = (struct disk_layout){
		.magic = DISK_MAGIC,
		.version = DISK_VERSION,
		.swap_first = 1,
		.swap_pages = swap,
		.file_first = 1 + swap,
		.file_pages = pages - swap,
		.seed = rdtsc() | 1,
		.sector_count = info.sector_count,
	};
	if (super_io(AERO_BLOCK_WRITE))
		return true;
	memset(&super, 0, sizeof(super));
	return false;
}
