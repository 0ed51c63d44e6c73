/* The hypervisor's own access to a guest's memory: copies and pins. See mm/p2m.h. */
#include "mm/p2m_walk.h"
#include "vmm/base/string.h"

static bool range_ok(const struct p2m *p, gpa_t at, uint64_t bytes)
{
	uint64_t end = p->gfn_count << PAGE_SHIFT;

	return at.v <= end && bytes <= end - at.v;
}

/* The frame to read from; MFN_NONE: it reads as zero and need not be there. */
static inline status_t frame_to_read(struct p2m *p, gfn_t gfn, mfn_t *out)
{
	struct p2m_slot s = p2m_walk(p, gfn);

	*out = MFN_NONE;
	if (entry_present(*s.entry)) {
		*out = mfn_add(entry_mfn(*s.entry), gfn.v & ((1ull << level_order(s.level)) - 1));
		return OK;
	}
	if (*s.entry == ENTRY(P2M_EMPTY))
		return OK;
	/* As the guest's own access would: it leaves the balloon. */
	return p2m_fault_locked(p, gfn, P2M_READ) == P2M_FAULT_MAPPED ? OK : ERR_NOMEM;
}

/* The frame of a page that is RAM, after populating it if need be. */
static inline status_t frame_to_write(struct p2m *p, gfn_t gfn, mfn_t *out)
{
	struct p2m_slot s = p2m_walk(p, gfn);

	if (!entry_present(*s.entry) || entry_state(*s.entry) != P2M_RAM) {
		if (p2m_fault_locked(p, gfn, P2M_WRITE) != P2M_FAULT_MAPPED)
			return ERR_NOMEM;
		s = p2m_walk(p, gfn);
	}
	*out = mfn_add(entry_mfn(*s.entry), gfn.v & ((1ull << level_order(s.level)) - 1));
	return OK;
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
		mfn_t mfn;

		s = frame_to_read(p, gpa_to_gfn(from), &mfn);
		if (s != OK)
			break;
		if (mfn_is_none(mfn))
			memset(to, 0, n);
		else
			memcpy(to, (const char *)mfn_to_va(mfn) + offset, n);
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

		s = frame_to_write(p, gpa_to_gfn(to), &mfn);
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

status_t p2m_pin(struct p2m *p, gfn_t gfn, void **va)
{
	struct p2m_slot s;
	mfn_t mfn;

	if (gfn.v >= p->gfn_count)
		return ERR_RANGE;
	spin_lock(&p->lock);
	status_t err = frame_to_write(p, gfn, &mfn);

	/* Pins are a page each: a block is split. */
	if (err == OK && p2m_walk_make(p, gfn, 1, 0, &s) != OK)
		err = ERR_NOMEM;
	if (err == OK && (*s.entry & LEAF_PINNED))
		err = ERR_BUSY;
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
