/*
 * The guests' disks: each is a region of one host disk, after a header sector that starts with
 * BLOCK_MAGIC: a disk without it is never written. Regions are given in the order of the config, so
 * a guest finds its own again at the next boot. Synchronous.
 */
#pragma once

#include "vmm/guest.h"

#define BLOCK_MAGIC       "AEROSTATDISK\0\0\0\0" /* 16 bytes at the start of sector 0 */
#define BLOCK_MAGIC_BYTES 16u
#define BLOCK_FIRST_SECTOR 8u /* regions start here and are multiples of 8 sectors */
/* Sectors one hypercall moves at most before it returns to the guest: bounds its time. */
#define BLOCK_CALL_SECTORS 2048u
/* And after so long: the console's port holds sixteen bytes, 1.4 ms of typing. */
#define BLOCK_CALL_MS 1u

/* Once at boot: looks at the disk and lays out the regions of the guests in `config`. */
void block_init(const struct config *config);
/* Where swap lies, at the disk's end: ERR_NOENT (none is wanted); else as block_open(), with a sentence. */
status_t block_swap(uint32_t *disk, uint64_t *first_sector, uint64_t *pages,
	char error[CONFIG_ERROR_BYTES]) MUST_CHECK;
/* The region of a guest; `out` is all zero if it wants none. ERR_NOENT (no disk), ERR_FORMAT (not
 * marked as ours), ERR_LIMIT (too small), ERR_IO; `error` gets a sentence. */
status_t block_open(const struct config_guest *guest, struct block_region *out,
	char error[CONFIG_ERROR_BYTES]) MUST_CHECK;

/* The guest is gone, and its pages: nothing is remembered of its region. */
void block_close(const struct block_region *region);

/* What of a request's buffer cannot be given now; bytes 0: nothing of the kind. */
struct block_wait {
	status_t status; /* ERR_NOMEM: frames; ERR_BUSY: it is being read from swap; ERR_IO: it is lost */
	gpa_t gpa;
	uint64_t bytes;
};

/* One request, with the disk claimed (vmm/disk_turn.h): 0 or -AERO_E*, as it goes to the guest. If it lacks
 * memory *wait says for what; nothing is promised of the buffer then, and the request may be made again: it
 * goes on where it stopped. */
int64_t block_request(struct vcpu *v, const struct aero_block_req *r, struct block_wait *wait);
