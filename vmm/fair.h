/* Pure. Weighted fair run queues, one per CPU: who runs next, for how long, and who moves.
 *
 * Start-time fair queueing (Goyal, Guo, Vin, "Start-time Fair Queuing", SIGCOMM 1996; the same order
 * as stride scheduling, Waldspurger and Weihl 1995): a vCPU's virtual time advances by the ticks it
 * ran divided by its weight, and the one with the least runs. A queue's own virtual time is the
 * least of those on it; it never goes back while nobody moves in from another queue.
 *
 * One CPU. Whoever is picked has the least virtual time and runs for one slice at most, and whoever
 * arrives is placed at the queue's virtual time or later. So at any moment, for every i on the queue,
 *     weight_i * (vtime_i - vtime of the queue) <= one slice
 * and, as the ideal share is at the weighted mean of all virtual times, which is not less than the
 * least: no vCPU is ahead of its share by more than one slice. For any two that both want to run,
 * |ran_i / weight_i - ran_j / weight_j| <= slice / weight_i + slice / weight_j. What a leaver was
 * owed, or owes, is shared out among those who stay (Stoica et al., EEVDF, RTSS 1996, section 3).
 * With n on the queue, each waits for at most n - 1 slices more than its weight explains.
 *
 * Several CPUs. Virtual times of the queues are comparable. Before it picks, a CPU takes over
 * (fair_steal) a waiting vCPU that is owed a slice of its own against the CPU's own best; so a CPU
 * that has gone further than another helps it, as in distributed weighted round-robin (Li, Baumberger,
 * Hahn, PPoPP 2009). The ideal is a share by weight, but never more than one CPU each: one that has a
 * CPU to itself is owed next to nothing, and is brought up to the queues where somebody waits
 * (fair_catch_up), so that a weight worth more than one CPU saves nothing up. The lag is bounded by
 * measurement, not by proof: with weights 250 times apart on 2 to 8 CPUs, all runnable on all of them,
 * nobody is ahead by more than 6 slices or behind by more than 7 (tests/unit/test_fair.c); with
 * weights at most 4 times apart, 3.
 *
 * All of a queue is guarded by its CPU's run queue lock (the caller's); fair_steal needs both.
 * `vtime` of another queue may be read without it: a hint. Ticks are the TSC's.
 */
#pragma once

#include "vmm/base/list.h"

#define FAIR_WEIGHT_MIN	    1u
#define FAIR_WEIGHT_MAX	    100000u /* the config's `shares` */
#define FAIR_WEIGHT_DEFAULT 1000u
#define FAIR_CPU_MAX	    64u /* bits in a mask */
#define FAIR_CREDIT_SLICES  4u	/* most that one alone on its CPU is owed */
#define FAIR_MOVE_SLICES    64u /* most that is taken along to another CPU */

struct fair_queue;

struct fair_entity {
	struct list link;	  /* on queue->waiting, in order of vtime; alone if it runs */
	struct fair_queue *queue; /* NULL: sleeps, or is stopped */
	uint64_t vtime;		  /* kept over a sleep; meaningful against queue->vtime only */
	uint64_t inverse;	  /* 2^32 / weight */
	uint64_t turn;		  /* ticks charged since it was picked */
	uint64_t cpus;		  /* mask of those it may run on; a change counts from its next move */
	uint32_t weight;
	uint32_t cpu; /* where it was last; its vtime is in that queue's terms */
};

struct fair_queue {
	struct list waiting;
	struct fair_entity *running;
	uint64_t vtime; /* the least of all on it; where the last one left it if there is none */
	uint64_t slice; /* ticks */
	uint64_t weight; /* of all on it, running or waiting */
	uint32_t count;	 /* running included */
	uint32_t cpu;
};

/* Virtual times wrap: a before b. They never lie half the range apart (see fair_catch_up). */
static inline bool fair_before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

static inline bool fair_allows(const struct fair_entity *e, uint32_t cpu)
{
	return (e->cpus >> cpu) & 1;
}

/* slice_ticks: 1 .. 2^32 - 1 (both here and below, what is larger counts as that). */
void fair_queue_init(struct fair_queue *q, uint32_t cpu, uint64_t slice_ticks);
/* Out of range weights are brought into it; a mask of 0 counts as all. */
void fair_entity_init(struct fair_entity *e, uint32_t weight, uint64_t cpus);
/* Any time; what it is ahead by, in ticks, stays as it is. */
void fair_set_weight(struct fair_entity *e, uint32_t weight);

/*
 * It wants to run, from now. A sleep earns nothing: it starts at the queue's virtual time, or later
 * if it is still ahead from before. `home` is the queue of e->cpu (its lock need not be held: the
 * vtime is a hint), or NULL if it is new.
 */
void fair_enqueue(struct fair_queue *q, struct fair_entity *e, const struct fair_queue *home);
/* It leaves, from waiting or (charged first) from running. */
void fair_dequeue(struct fair_entity *e);

/* The next to run, now q->running; NULL: nobody waits. Only with nobody running. */
struct fair_entity *fair_pick(struct fair_queue *q);
/* The running one used that many ticks more. */
void fair_charge(struct fair_queue *q, uint64_t ticks);
/* Ticks the running one has left, once charged; 0: fair_put. */
uint64_t fair_left(const struct fair_queue *q);
/* The running one waits again, behind those of the same virtual time. */
void fair_put(struct fair_queue *q);
/* Should the running one (charged) make room for `woken`, which waits on the same queue? */
bool fair_should_preempt(const struct fair_queue *q, const struct fair_entity *woken);

/*
 * The running `r` (charged) and `w` of the same weight, which waits on the same queue or another, change places:
 * each takes the other's queue and virtual time, and both wait. Every queue has the virtual times it had, so
 * nobody else's share changes by it. Each must be allowed where it goes. Locks of both queues.
 */
void fair_exchange(struct fair_entity *r, struct fair_entity *w);
/*
 * A waiting one of `from` moves to `to` and waits there: the one owed most of those that may run
 * there. If `to` has others, only if it is owed a slice against them. NULL: nobody does. Before each
 * pick, from each queue that fair_behind says may have one. Who is put back (fair_put) and not picked
 * again may suit a CPU that idles: the caller kicks one.
 */
struct fair_entity *fair_steal(struct fair_queue *from, struct fair_queue *to);
/* May `from` have somebody for `to`? Reads two words: no lock needed, as a hint. */
static inline bool fair_behind(const struct fair_queue *from, const struct fair_queue *to)
{
	return !list_empty(&from->waiting) &&
		(to->count == 0 || fair_before(from->vtime, to->vtime));
}
/*
 * Before each pick and enqueue, and on the idle tick, with all queues (the others' words are hints).
 * Does nothing if two or more are on q.
 */
void fair_catch_up(struct fair_queue *q, const struct fair_queue *const *queues, uint32_t count);
/*
 * Where a woken one should go, of the `count` queues: an idle one it may use (the last one first),
 * else its last, else the one with the least weight. Reads hints only.
 */
uint32_t fair_choose(const struct fair_entity *e, const struct fair_queue *const *queues,
	uint32_t count);
