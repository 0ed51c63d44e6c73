#include "vmm/block.h"

#include "mm/alias.h"
#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/hcdecode.h"
#include "vmm/platform.h"

/* A name's region. Set at boot from the config; more are added behind for guests created later. */
struct block_slot {
	char name[CONFIG_NAME_BYTES];
	uint64_t first, count; /* sectors */
};

#define BLOCK_PIECE_SECTORS 128u
#define BLOCK_SECTORS       (PAGE_BYTES / AERO_SECTOR_BYTES) /* mm/alias.h's blocks */

/* Written at boot and by guest_create() only, both on CPU 0; `bounce` by who has claimed the disk. */
static struct {
	uint32_t disk;         /* platform disk index */
	status_t status;       /* OK: usable */
	uint64_t sector_count; /* the disk's, less swap at its end */
	uint64_t swap_first, swap_count; /* sectors; 0: no swap, or no room for it */
	uint64_t swap_wanted;  /* bytes */
	uint64_t next;         /* first sector not given away */
	uint32_t slot_count;
	struct block_slot slot[CONFIG_GUEST_MAX * 2];
	uint8_t bounce[BLOCK_PIECE_SECTORS * AERO_SECTOR_BYTES];
} block;

static status_t check_disk(uint32_t index)
{
	static uint8_t header[AERO_SECTOR_BYTES];
	const struct platform_disk *d = platform_disk(index);

	if (!d || !d->present)
		return ERR_NOENT;
	block.sector_count = d->sector_count;
	if (platform_disk_read(index, 0, 1, header) != OK)
		return ERR_IO;
	return memcmp(header, BLOCK_MAGIC, BLOCK_MAGIC_BYTES) ? ERR_FORMAT : OK;
}

/* Regions never overlap and are never given to another name: no guest reads another's disk. */
static struct block_slot *add_slot(const char *name, uint64_t bytes)
{
	uint64_t sectors = ALIGN_UP(bytes, PAGE_BYTES) / AERO_SECTOR_BYTES;

	if (block.slot_count == ARRAY_COUNT(block.slot) || block.next > block.sector_count ||
		sectors > block.sector_count - block.next)
		return NULL;
	struct block_slot *s = &block.slot[block.slot_count++];

	str_copy(s->name, sizeof(s->name), name);
	s->first = block.next;
	s->count = sectors;
	block.next += sectors;
	return s;
}

/* Its content is worth nothing after a boot, so it may move as the disk grows; but it never lies where the guests
 * of the configuration keep theirs. */
static void place_swap(uint64_t bytes)
{
	uint64_t sectors = ALIGN_UP(bytes, PAGE_BYTES) / AERO_SECTOR_BYTES;
	uint64_t end = ALIGN_DOWN(block.sector_count, (uint64_t)BLOCK_FIRST_SECTOR);

	if (block.status != OK || sectors == 0 || end < block.next || sectors > end - block.next)
		return;
	block.swap_first = block.sector_count = end - sectors;
	block.swap_count = sectors;
}

void block_init(const struct config *config)
{
	memset(&block, 0, sizeof(block));
	block.disk = config->disk_index;
	block.next = BLOCK_FIRST_SECTOR;
	block.status = check_disk(config->disk_index);
	block.swap_wanted = config->swap_bytes;
	for (uint32_t i = 0; i < config->guest_count && block.status == OK; i++) {
		const struct config_guest *g = &config->guest[i];

		/* Where one does not fit, those behind it have no place either: positions are kept. */
		if (g->disk_bytes && !add_slot(g->name, g->disk_bytes))
			break;
	}
	place_swap(config->swap_bytes);
}

static const char *disk_problem(void)
{
	switch (block.status) {
	case ERR_NOENT:
		return "there is no such disk";
	case ERR_FORMAT:
		return "it is not marked as Aerostat's (its first 16 bytes must be \"AEROSTATDISK\" "
		       "and four zero bytes)";
	default:
		return "it cannot be read";
	}
}

status_t block_swap(uint32_t *disk, uint64_t *first_sector, uint64_t *pages,
	char error[CONFIG_ERROR_BYTES])
{
	char want[16], have[16];

	if (block.swap_wanted == 0)
		return ERR_NOENT;
	format_size(want, sizeof(want), block.swap_wanted);
	if (block.status != OK) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "no swap: %s are wanted on disk %u, but %s", want,
			block.disk, disk_problem());
		return block.status;
	}
	if (block.swap_count == 0) {
		uint64_t left = block.sector_count - MIN(block.next, block.sector_count);

		fmt_snprintf(error, CONFIG_ERROR_BYTES, "no swap: %s are wanted, but disk %u has %s behind "
			"the guests' regions", want, block.disk,
			format_size(have, sizeof(have), left * AERO_SECTOR_BYTES));
		return ERR_LIMIT;
	}
	*disk = block.disk;
	*first_sector = block.swap_first;
	*pages = block.swap_count * AERO_SECTOR_BYTES / PAGE_BYTES;
	return OK;
}

static struct block_slot *find_slot(const struct config_guest *g)
{
	for (uint32_t i = 0; i < block.slot_count; i++) {
		if (strcmp(block.slot[i].name, g->name) == 0)
			return &block.slot[i];
	}
	return add_slot(g->name, g->disk_bytes);
}

status_t block_open(const struct config_guest *guest, struct block_region *out,
	char error[CONFIG_ERROR_BYTES])
{
	char want[16], have[16];

	memset(out, 0, sizeof(*out));
	if (guest->disk_bytes == 0)
		return OK;
	format_size(want, sizeof(want), guest->disk_bytes);
	if (block.disk == UINT32_MAX) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s wants a disk of %s, but the config "
			"names none: add disk { index = <1>; };", guest->name, want);
		return ERR_NOENT;
	}
	if (block.status != OK) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s wants a disk of %s on disk %u, but "
			"%s", guest->name, want, block.disk, disk_problem());
		return block.status;
	}
	struct block_slot *s = find_slot(guest);

	if (!s || s->count * AERO_SECTOR_BYTES < guest->disk_bytes) {
		uint64_t left = s ? s->count : block.sector_count - MIN(block.next, block.sector_count);

		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s wants a disk of %s, but disk %u has "
			"%s left for it", guest->name, want, block.disk,
			format_size(have, sizeof(have), left * AERO_SECTOR_BYTES));
		return ERR_LIMIT;
	}
	out->disk = block.disk;
	out->first_sector = s->first;
	out->sector_count = s->count;
	return OK;
}

void block_close(const struct block_region *region)
{
	if (region->sector_count)
		alias_forget(region->first_sector / BLOCK_SECTORS, region->sector_count / BLOCK_SECTORS);
}

static int64_t disk_failed(struct guest *g)
{
	g->disk.errors++;
	guest_log(g, LOG_WARN, "its disk reported an error");
	return -AERO_EIO;
}

/* The range was checked, so a copy fails only for want of memory, or because a page is out. Which page lacks is the
 * caller's to find: all of the piece is named by its first address. */
static int64_t copy_failed(struct block_wait *wait, status_t s, uint64_t gpa, uint64_t bytes)
{
	if (s != ERR_NOMEM && s != ERR_LIMIT && s != ERR_BUSY && s != ERR_IO)
		return -AERO_EFAULT;
	*wait = (struct block_wait){ .status = s, .gpa = GPA(gpa), .bytes = bytes };
	return -AERO_ENOMEM;
}

/*
 * Whole pages of its memory and whole blocks of the disk are the same now: the ladder may drop the pages. Of
 * guests that owe pages, and of those without a balloon driver, whom the ladder takes them from first: a hash
 * costs more than the copy.
 */
static void learn(const struct guest *g, uint64_t sector, uint32_t sectors, uint64_t gpa)
{
	if ((g->ladder.limit_pages == UINT64_MAX && g->balloon.page) || gpa & PAGE_OFFSET_MASK ||
		sector % BLOCK_SECTORS)
		return;
	for (uint32_t at = 0; at + BLOCK_SECTORS <= sectors; at += BLOCK_SECTORS) {
		alias_learn(g->id, (sector + at) / BLOCK_SECTORS, (gpa >> PAGE_SHIFT) + at / BLOCK_SECTORS,
			block.bounce + at * AERO_SECTOR_BYTES);
		platform_listen(); /* some take longer than the console's port holds what is typed */
	}
}

/*
 * Pages that lie in these blocks and nowhere else come in before they are overwritten: each that does leaves its block
 * for good. One that CPU 0 is about to settle there is still where it was: that one to let go is a moment's wait.
 */
static status_t break_aliases(struct guest *g, uint64_t first, uint64_t count, uint64_t *gfn)
{
	for (uint64_t rounds = 2 * count; alias_break(first, count, gfn) != OK; rounds--) {
		if (rounds == 0)
			return ERR_BUSY;
		switch (p2m_fault(&g->p2m, gfn_to_gpa(GFN(*gfn)), P2M_READ)) {
		case P2M_FAULT_MAPPED:
			break;
		case P2M_FAULT_DISK:
			return ERR_BUSY;
		case P2M_FAULT_LOST:
			return ERR_IO;
		default:
			return ERR_NOMEM;
		}
	}
	return OK;
}

static int64_t read_piece(struct guest *g, uint64_t sector, uint32_t sectors, uint64_t gpa,
	struct block_wait *wait)
{
	uint64_t bytes = (uint64_t)sectors * AERO_SECTOR_BYTES;

	if (platform_disk_read(g->disk.disk, sector, sectors, block.bounce) != OK)
		return disk_failed(g);
	status_t s = p2m_copy_to(&g->p2m, GPA(gpa), block.bounce, bytes);

	if (s != OK)
		return copy_failed(wait, s, gpa, bytes);
	learn(g, sector, sectors, gpa);
	return 0;
}

static int64_t write_piece(struct guest *g, uint64_t sector, uint32_t sectors, uint64_t gpa,
	struct block_wait *wait)
{
	uint64_t bytes = (uint64_t)sectors * AERO_SECTOR_BYTES, gfn;
	uint64_t first = sector / BLOCK_SECTORS, count = (sector + sectors - 1) / BLOCK_SECTORS - first + 1;
	status_t s = break_aliases(g, first, count, &gfn);

	if (s != OK)
		return copy_failed(wait, s, gfn << PAGE_SHIFT, 1);
	s = p2m_copy_from(&g->p2m, GPA(gpa), block.bounce, bytes);
	if (s != OK)
		return copy_failed(wait, s, gpa, bytes);
	s = platform_disk_write(g->disk.disk, sector, sectors, block.bounce);
	alias_wrote(first, count);
	if (s != OK)
		return disk_failed(g);
	learn(g, sector, sectors, gpa);
	return 0;
}

static bool same_request(const struct aero_block_req *a, const struct aero_block_req *b)
{
	return a->sector == b->sector && a->gpa == b->gpa && a->sectors == b->sectors && a->op == b->op;
}

/* A piece whose pages are not all to be had at once is tried page by page, so that there is progress
 * however few of them fit into the swap's buffers. */
static uint32_t piece_of(uint32_t left, uint64_t gpa, bool small)
{
	uint32_t to_page_end = (uint32_t)((PAGE_BYTES - (gpa & PAGE_OFFSET_MASK)) / AERO_SECTOR_BYTES);

	return MIN(left, small ? to_page_end : BLOCK_PIECE_SECTORS);
}

/*
 * In pieces through a buffer: with pins instead, each page of a 2 MiB block would split it, and a
 * guest that pages out under pressure would need tables for that. Where it stops for want of a page
 * it goes on when it is made again.
 */
static int64_t transfer(struct vcpu *v, const struct aero_block_req *r, struct block_wait *wait)
{
	struct guest *g = v->guest;
	uint32_t done = v->block_done && same_request(&v->block_at, r) ? v->block_done : 0;
	bool small = false;

	v->block_done = 0;
	while (done < r->sectors) {
		uint64_t sector = g->disk.first_sector + r->sector + done;
		uint64_t gpa = r->gpa + (uint64_t)done * AERO_SECTOR_BYTES;
		uint32_t n = piece_of(r->sectors - done, gpa, small);
		int64_t result = r->op == AERO_BLOCK_WRITE ? write_piece(g, sector, n, gpa, wait) :
							     read_piece(g, sector, n, gpa, wait);

		if (wait->bytes && !small && wait->status == ERR_BUSY) {
			wait->bytes = 0;
			small = true;
			continue;
		}
		if (wait->bytes && done) {
			v->block_at = *r;
			v->block_done = done;
		}
		if (result)
			return result;
		done += n;
	}
	return 0;
}

int64_t block_request(struct vcpu *v, const struct aero_block_req *r, struct block_wait *wait)
{
	struct guest *g = v->guest;

	wait->bytes = 0;
	if (g->disk.sector_count == 0)
		return -AERO_ENOENT;
	int64_t result = hc_check_block(r, g->disk.sector_count, g->p2m.gfn_count * PAGE_BYTES);

	if (result)
		return result;
	if (r->op == AERO_BLOCK_FLUSH)
		return platform_disk_flush(g->disk.disk) == OK ? 0 : -AERO_EIO;
	result = transfer(v, r, wait);
	if (result == 0 && r->op == AERO_BLOCK_READ) {
		g->disk.reads++;
		g->disk.read_sectors += r->sectors;
	} else if (result == 0) {
		g->disk.writes++;
		g->disk.write_sectors += r->sectors;
	}
	return result;
}
