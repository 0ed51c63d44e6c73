/* Which pages a guest touches. See mm/sample.h. */
#include "mm/sample.h"

#include "mm/p2m_walk.h"

/* ---- by accessed bits -------------------------------------------------------------------------- */

/*
 * The processor sets the bit by locked changes of its own at any time, so that it is cleared by one, too: a plain
 * store could undo what it does to the other bits. In a 2 MiB leaf there is one bit for 512 pages.
 */
static bool clear_accessed(uint64_t *entry)
{
	uint64_t was = __atomic_fetch_and(entry, ~slat_format->accessed, __ATOMIC_ACQ_REL);

	return was & slat_format->accessed;
}

/* True: a processor may have it cached as accessed. */
static bool begin_accessed(struct p2m *p, struct sample_page *page)
{
	struct p2m_slot s = p2m_walk(p, page->gfn);
	uint64_t e = *s.entry;

	if (entry_present(e) && entry_state(e) != P2M_EMPTY) {
		page->watch = SAMPLE_WATCHED;
		return clear_accessed(s.entry);
	}
	page->watch = !entry_present(e) && entry_state(e) == P2M_IN_FLIGHT ? SAMPLE_SKIPPED : SAMPLE_ABSENT;
	return false;
}

/* A page that the ladder has held meanwhile has no bit any more; whoever wants it takes it back, and sets it. */
static bool watched_is_accessed(uint64_t e)
{
	return entry_present(e) && entry_state(e) != P2M_EMPTY && (e & slat_format->accessed);
}

/* ---- by invalidating --------------------------------------------------------------------------- */

/* Breaks the 2 MiB leaf that it lies in, for the window: joined again when it ends. */
static bool split_for(struct p2m *p, gfn_t gfn)
{
	struct p2m_slot s = p2m_walk(p, gfn);

	return s.level == 2 && p2m_make_table(p, gfn, s, 0) == OK;
}

static enum sample_watch watch_absent(uint64_t e)
{
	return entry_state(e) == P2M_IN_FLIGHT ? SAMPLE_SKIPPED : SAMPLE_ABSENT;
}

/* True: it has been unmapped. */
static bool begin_invalidate(struct p2m *p, struct sample_page *page)
{
	struct p2m_slot s = p2m_walk(p, page->gfn);
	uint64_t e = *s.entry;

	page->watch = SAMPLE_ABSENT;
	if (!entry_present(e)) {
		page->watch = watch_absent(e);
		return false;
	}
	if (entry_state(e) == P2M_EMPTY) /* the zero frame: reading it needs no memory */
		return false;
	page->watch = SAMPLE_SKIPPED;
	if (entry_state(e) != P2M_RAM) /* SHARED: unmapped, it could not come back as it was */
		return false;
	page->watch = SAMPLE_TAKEN;
	if (s.level > 1 && !split_for(p, page->gfn))
		return false;
	s = p2m_walk(p, page->gfn);
	e = *s.entry;
	page->watch = SAMPLE_SKIPPED;
	if (e & LEAF_PINNED)
		return false;
	mfn_t mfn = entry_mfn(e);

	page->watch = SAMPLE_WATCHED;
	entry_write(s.entry, entry_out(P2M_IN_FLIGHT, mfn.v) | ENTRY_SAMPLED);
	p2m_note_gone(frame_known(s.table), level_index(page->gfn, 1), mfn);
	p->pages[P2M_RAM]--;
	p->pages[P2M_IN_FLIGHT]++;
	return true;
}

static bool is_sampled(uint64_t e)
{
	return !entry_present(e) && entry_state(e) == P2M_IN_FLIGHT && (e & ENTRY_SAMPLED);
}

/* It has been touched if it lost the mark, unless the guest gave it away; the ladder may have it since. */
static bool watched_has_come(uint64_t e)
{
	return !is_sampled(e) && entry_state(e) != P2M_EMPTY && entry_state(e) != P2M_BALLOONED;
}

/* ---- both -------------------------------------------------------------------------------------- */

static uint64_t entry_of(const struct p2m *p, gfn_t gfn)
{
	return *p2m_walk(p, gfn).entry;
}

/* It had no frame and has one now. */
static bool has_come(uint64_t e)
{
	return entry_state(e) == P2M_RAM || entry_state(e) == P2M_IN_FLIGHT;
}

static bool is_touched(const struct p2m *p, enum sample_way way, const struct sample_page *page)
{
	uint64_t e = entry_of(p, page->gfn);

	switch (page->watch) {
	case SAMPLE_WATCHED:
		return way == SAMPLE_ACCESSED ? watched_is_accessed(e) : watched_has_come(e);
	case SAMPLE_ABSENT:
		return has_come(e);
	default:
		return true;
	}
}

static uint32_t next_batch(uint32_t done, uint32_t count)
{
	return MIN(count - done, SAMPLE_BATCH);
}

void p2m_sample_begin(struct p2m *p, enum sample_way way, struct sample_page *pages, uint32_t count)
{
	for (uint32_t n, at = 0; at < count; at += n) {
		bool flush = false;

		n = next_batch(at, count);
		spin_lock(&p->lock);
		for (uint32_t i = 0; i < n; i++)
			flush |= way == SAMPLE_ACCESSED ? begin_accessed(p, &pages[at + i]) :
							  begin_invalidate(p, &pages[at + i]);
		/* Unmapped ones before the lock is given up: the balloon may free them next. */
		if (flush)
			slat_flush(&p->slat);
		spin_unlock(&p->lock);
	}
}

static void look(struct p2m *p, enum sample_way way, const struct sample_page *pages, uint32_t count,
	bool end, struct sample_result *out)
{
	for (uint32_t n, at = 0; at < count; at += n) {
		n = next_batch(at, count);
		spin_lock(&p->lock);
		for (uint32_t i = at; i < at + n; i++) {
			if (pages[i].watch == SAMPLE_SKIPPED)
				continue;
			out->sampled++;
			out->touched += is_touched(p, way, &pages[i]);
			if (end && is_sampled(entry_of(p, pages[i].gfn)))
				p2m_map_again(p, pages[i].gfn);
		}
		spin_unlock(&p->lock);
	}
}

void p2m_sample_look(struct p2m *p, enum sample_way way, const struct sample_page *pages, uint32_t count,
	struct sample_result *out)
{
	look(p, way, pages, count, false, out);
}

void p2m_sample_end(struct p2m *p, enum sample_way way, const struct sample_page *pages, uint32_t count,
	struct sample_result *out)
{
	look(p, way, pages, count, true, out);
}
