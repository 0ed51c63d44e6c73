/* The hypervisor's own access to a guest's memory: copies and pins. See mm/p2m.h. */
#include "mm/evict.h"
#include "mm/p2m_walk.h"
#include "vmm/base/string.h"

bool p2m_naive;

static bool range_ok(const struct p2m *p, gpa_t at, uint64_t bytes)
{
	uint64_t end = p->gfn_count << PAGE_SHIFT;

	return at.v <= end && bytes <= end - at.v;
}

/* What a fault that did not map means to a copy. */
static status_t copy_status(enum p2m_fault_result r)
{
	switch (r) {
	case P2M_FAULT_MAPPED:
		return OK;
	case P2M_FAULT_DISK:
		return ERR_BUSY;
	case P2M_FAULT_LOST:
		return ERR_IO;
	default:
		return ERR_NOMEM;
	}
}

/*
 * Where to read a page from: its frame, a page of this CPU's if its content is out, NULL if it reads as zero and need
 * not be there.
 */
static inline status_t page_to_read(struct p2m *p, gfn_t gfn, const char **out)
{
	for (;;) {
		struct p2m_slot s = p2m_walk(p, gfn);
		uint64_t e = *s.entry;
		status_t err = OK;

		*out = NULL;
		if (entry_present(e)) {
			uint64_t within = gfn.v & ((1ull << level_order(s.level)) - 1);

			*out = mfn_to_va(mfn_add(entry_mfn(e), within));
			return OK;
		}
		if (e == ENTRY(P2M_EMPTY))
			return OK;
		if (entry_state(e) == P2M_IN_FLIGHT && !p2m_naive) {
			*out = mfn_to_va(MFN(entry_payload(e)));
			p->read_out++;
			return OK;
		}
		if (entry_is_out(e) && !p2m_naive) {
			*out = p2m_scratch(1);
			err = p2m_read_out(p, gfn, p2m_scratch(1));
		} else { /* as the guest's own access would: it leaves the balloon */
			err = copy_status(p2m_fault_locked(p, gfn, P2M_READ));
			if (err == OK)
				continue;
		}
		if (err != ERR_NOENT)
			return err;
	}
}

/* The frame of a page that is RAM, after populating it if need be. `whole`: all of it is overwritten. */
static inline status_t frame_to_write(struct p2m *p, gfn_t gfn, bool whole, mfn_t *out)
{
	for (;;) { /* what another CPU did to it meanwhile is seen in the next round */
		struct p2m_slot s = p2m_walk(p, gfn);
		uint64_t e = *s.entry;
		status_t err;

		if (entry_present(e) && entry_state(e) == P2M_RAM) {
			uint64_t within = gfn.v & ((1ull << level_order(s.level)) - 1);

			*out = mfn_add(entry_mfn(e), within);
			return OK;
		}
		if (entry_is_shared(e))
			err = p2m_unshare(p, gfn, s.entry, s.table, 0, whole);
		else if (whole && !entry_present(e) && entry_is_out(e) && !p2m_naive)
			err = p2m_bring_in(p, gfn, 0, true);
		else
			err = copy_status(p2m_fault_locked(p, gfn, P2M_WRITE));
		if (err != OK)
			return err;
	}
}

status_t p2m_copy_from(struct p2m *p, gpa_t from, void *buf, uint64_t bytes)
{
	char *to = buf;
	status_t s = OK;

	if (!range_ok(p, from, bytes))
		return ERR_RANGE;
	spin_lock(&p->lock);
	while (bytes) {
		uint64_t offset = from.v & PAGE_OFFSET_MASK, n = MIN(bytes, PAGE_BYTES - offset);
		const char *page;

		s = page_to_read(p, gpa_to_gfn(from), &page);
		if (s != OK)
			break;
		if (page)
			memcpy(to, page + offset, n);
		else
			memset(to, 0, n);
		to += n;
		from.v += n;
		bytes -= n;
	}
	spin_unlock(&p->lock);
	return s;
}

status_t p2m_copy_to(struct p2m *p, gpa_t to, const void *buf, uint64_t bytes)
{
	const char *from = buf;
	status_t s = OK;

	if (!range_ok(p, to, bytes))
		return ERR_RANGE;
	spin_lock(&p->lock);
	while (bytes) {
		uint64_t offset = to.v & PAGE_OFFSET_MASK, n = MIN(bytes, PAGE_BYTES - offset);
		mfn_t mfn;

		s = frame_to_write(p, gpa_to_gfn(to), n == PAGE_BYTES, &mfn);
		if (s != OK)
			break;
		memcpy((char *)mfn_to_va(mfn) + offset, from, n);
		from += n;
		to.v += n;
		bytes -= n;
	}
	spin_unlock(&p->lock);
	return s;
}

status_t p2m_keep(struct p2m *p, uint32_t who, gpa_t at, uint64_t bytes)
{
	status_t s = OK;
	mfn_t mfn;

	HV_BUG_ON(who >= P2M_KEEPERS || !bytes);
	if (!range_ok(p, at, bytes))
		return ERR_RANGE;
	gfn_t first = gpa_to_gfn(at), last = gpa_to_gfn(GPA(at.v + bytes - 1));

	spin_lock(&p->lock);
	/* First: for one that comes in the lock may be given up, and those before it must not go meanwhile. */
	p->kept[who] = (struct p2m_kept){ first.v, last.v + 1 };
	for (gfn_t gfn = first; s == OK && gfn.v <= last.v; gfn = gfn_add(gfn, 1))
		s = frame_to_write(p, gfn, false, &mfn);
	if (s != OK)
		p->kept[who] = (struct p2m_kept){ 0, 0 };
	spin_unlock(&p->lock);
	return s;
}

void p2m_keep_end(struct p2m *p, uint32_t who)
{
	spin_lock(&p->lock);
	p->kept[who] = (struct p2m_kept){ 0, 0 };
	spin_unlock(&p->lock);
}

status_t p2m_pin(struct p2m *p, gfn_t gfn, void **va)
{
	struct p2m_slot s;
	mfn_t mfn;

	if (gfn.v >= p->gfn_count)
		return ERR_RANGE;
	spin_lock(&p->lock);
	status_t err = frame_to_write(p, gfn, false, &mfn);

	/* Pins are a page each: a block is split. It is for a balloon, which gives more than it takes. */
	if (err == OK && p2m_walk_make(p, gfn, 1, FRAME_ALLOC_EMERGENCY, &s) != OK)
		err = ERR_NOMEM;
	if (err == OK && (*s.entry & LEAF_PINNED))
		err = ERR_EXIST;
	if (err == OK) {
		entry_write(s.entry, *s.entry | LEAF_PINNED);
		p->pinned++;
		*va = mfn_to_va(mfn);
	}
	spin_unlock(&p->lock);
	return err;
}

void p2m_unpin(struct p2m *p, gfn_t gfn)
{
	HV_BUG_ON(gfn.v >= p->gfn_count);
	spin_lock(&p->lock);
	struct p2m_slot s = p2m_walk(p, gfn);

	HV_BUG_ON(s.level != 1 || !entry_present(*s.entry) || !(*s.entry & LEAF_PINNED));
	entry_write(s.entry, *s.entry & ~LEAF_PINNED);
	p->pinned--;
	spin_unlock(&p->lock);
}
