/* Pure. See fair.h. */
#include "vmm/fair.h"

#define INVERSE_SHIFT 32
#define VTIME_SHIFT   16 /* a tick at weight 1 is 2^16 of virtual time */
#define TICKS_MAX     UINT32_MAX /* the product with `inverse` must fit */

/* Virtual time of so many ticks. Rounded up, or a large weight would run for nothing. */
static uint64_t span(const struct fair_entity *e, uint64_t ticks)
{
	const uint32_t down = INVERSE_SHIFT - VTIME_SHIFT;
	uint64_t product = (ticks < TICKS_MAX ? ticks : TICKS_MAX) * e->inverse;

	return (product >> down) + ((product & ((1ull << down) - 1)) != 0);
}

static struct fair_entity *first(const struct fair_queue *q)
{
	return list_empty(&q->waiting) ? NULL : list_entry(q->waiting.next, struct fair_entity, link);
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return fair_before(a, b) ? b : a;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return fair_before(a, b) ? a : b;
}

/* The least of all on the queue. */
static void set_vtime(struct fair_queue *q)
{
	const struct fair_entity *f = first(q), *r = q->running;

	if (f && r)
		q->vtime = earlier(f->vtime, r->vtime);
	else if (f || r)
		q->vtime = f ? f->vtime : r->vtime;
}

/* From the back: who ran last is usually behind most of them. After those of the same time. */
static void insert(struct fair_queue *q, struct fair_entity *e)
{
	struct list *at = q->waiting.prev;

	while (at != &q->waiting &&
		fair_before(e->vtime, list_entry(at, struct fair_entity, link)->vtime))
		at = at->prev;
	list_insert(at, &e->link);
}

static void join(struct fair_queue *q, struct fair_entity *e)
{
	e->queue = q;
	e->cpu = q->cpu;
	e->turn = 0;
	q->count++;
	q->weight += e->weight;
	insert(q, e);
	set_vtime(q);
}

void fair_queue_init(struct fair_queue *q, uint32_t cpu, uint64_t slice_ticks)
{
	*q = (struct fair_queue){ .cpu = cpu };
	q->slice = slice_ticks < TICKS_MAX ? slice_ticks : TICKS_MAX;
	list_init(&q->waiting);
}

static void apply_weight(struct fair_entity *e, uint32_t weight)
{
	e->weight = weight < FAIR_WEIGHT_MIN ? FAIR_WEIGHT_MIN :
		weight > FAIR_WEIGHT_MAX     ? FAIR_WEIGHT_MAX :
					       weight;
	e->inverse = (1ull << INVERSE_SHIFT) / e->weight;
}

void fair_entity_init(struct fair_entity *e, uint32_t weight, uint64_t cpus)
{
	*e = (struct fair_entity){ .cpus = cpus ? cpus : UINT64_MAX };
	list_init(&e->link);
	apply_weight(e, weight);
}

void fair_set_weight(struct fair_entity *e, uint32_t weight)
{
	struct fair_queue *q = e->queue;
	const uint64_t old = e->inverse;

	if (q)
		q->weight -= e->weight;
	apply_weight(e, weight);
	if (!q)
		return; /* it is placed anew when it wakes: ahead by a slice at most */
	q->weight += e->weight;
	/* no product or shift below overflows: `ahead` counts as a slice at most */
	const uint64_t ahead = e->vtime - q->vtime;
	uint64_t ticks = q->slice;

	if (ahead < (q->slice * old) >> (INVERSE_SHIFT - VTIME_SHIFT))
		ticks = (ahead << (INVERSE_SHIFT - VTIME_SHIFT)) / old;
	e->vtime = q->vtime + span(e, ticks);
	if (q->running != e) {
		list_remove(&e->link);
		insert(q, e);
	}
	set_vtime(q);
}

void fair_enqueue(struct fair_queue *q, struct fair_entity *e, const struct fair_queue *home)
{
	const uint64_t most = q->vtime + span(e, q->slice);

	if (!home)
		e->vtime = q->vtime;
	else if (home != q)
		e->vtime += q->vtime - home->vtime;
	e->vtime = earlier(later(e->vtime, q->vtime), most);
	join(q, e);
}

void fair_dequeue(struct fair_entity *e)
{
	struct fair_queue *q = e->queue;

	if (!q)
		return;
	if (q->running == e)
		q->running = NULL;
	else
		list_remove(&e->link);
	e->queue = NULL;
	q->count--;
	q->weight -= e->weight;
	if (q->count == 0)
		q->vtime = later(q->vtime, e->vtime);
	else
		set_vtime(q);
}

struct fair_entity *fair_pick(struct fair_queue *q)
{
	struct fair_entity *e = first(q);

	if (e) {
		list_remove(&e->link);
		e->turn = 0;
		q->running = e;
	}
	return e;
}

void fair_charge(struct fair_queue *q, uint64_t ticks)
{
	struct fair_entity *e = q->running;

	if (!e)
		return;
	e->turn += ticks;
	e->vtime += span(e, ticks);
	set_vtime(q);
}

uint64_t fair_left(const struct fair_queue *q)
{
	return q->running && q->running->turn < q->slice ? q->slice - q->running->turn : 0;
}

void fair_put(struct fair_queue *q)
{
	struct fair_entity *e = q->running;

	if (!e)
		return;
	q->running = NULL;
	insert(q, e);
}

void fair_exchange(struct fair_entity *r, struct fair_entity *w)
{
	const struct fair_entity was = *r;

	list_remove(&w->link);
	r->queue->running = NULL;
	r->queue = w->queue;
	r->cpu = w->cpu;
	r->vtime = w->vtime;
	w->queue = was.queue;
	w->cpu = was.cpu;
	w->vtime = was.vtime;
	insert(r->queue, r);
	insert(w->queue, w);
	set_vtime(r->queue);
	set_vtime(w->queue);
}

/* By more than a quarter of a slice, or two that wake each other would do nothing but switch. */
bool fair_should_preempt(const struct fair_queue *q, const struct fair_entity *woken)
{
	const struct fair_entity *r = q->running;

	return r && fair_before(woken->vtime + span(r, q->slice / 4), r->vtime);
}

/* Would `e` still be behind everyone on `to` after a slice? */
static bool owed(const struct fair_queue *to, const struct fair_entity *e)
{
	return to->count == 0 || fair_before(e->vtime + span(e, to->slice), to->vtime);
}

struct fair_entity *fair_steal(struct fair_queue *from, struct fair_queue *to)
{
	list_for_each(it, &from->waiting) {
		struct fair_entity *e = list_entry(it, struct fair_entity, link);

		if (!fair_allows(e, to->cpu))
			continue;
		if (!owed(to, e))
			return NULL;
		fair_dequeue(e);
		if (to->count == 0)
			to->vtime = later(to->vtime, from->vtime);
		e->vtime = later(e->vtime, to->vtime - span(e, FAIR_MOVE_SLICES * to->slice));
		e->vtime = earlier(e->vtime, to->vtime + span(e, to->slice));
		join(to, e);
		return e;
	}
	return NULL;
}

void fair_catch_up(struct fair_queue *q, const struct fair_queue *const *queues, uint32_t count)
{
	struct fair_entity *only = q->running ? q->running : first(q);
	const struct fair_queue *least = NULL;

	if (q->count > 1)
		return;
	for (uint32_t i = 0; i < count; i++)
		if (queues[i]->count > 1 && (!least || fair_before(queues[i]->vtime, least->vtime)))
			least = queues[i];
	if (!least)
		return;
	uint64_t to = least->vtime - (only ? span(only, FAIR_CREDIT_SLICES * q->slice) : 0);

	if (!fair_before(q->vtime, to))
		return;
	if (only)
		only->vtime = to;
	q->vtime = to;
}

uint32_t fair_choose(const struct fair_entity *e, const struct fair_queue *const *queues,
	uint32_t count)
{
	uint32_t best = count;
	const bool last_ok = e->cpu < count && fair_allows(e, e->cpu);

	if (last_ok && queues[e->cpu]->count == 0)
		return e->cpu;
	for (uint32_t i = 0; i < count; i++) {
		if (!fair_allows(e, i))
			continue;
		if (queues[i]->count == 0)
			return i;
		if (best == count || queues[i]->weight < queues[best]->weight)
			best = i;
	}
	if (last_ok)
		return e->cpu;
	return best < count ? best : 0; /* a mask of absent CPUs: the first, rather than never */
}
