/* mem-state, swap: where the pool's memory stands. */
#include "mm/reclaim.h"
#include "mm/alias.h"
#include "mm/swap.h"
#include "mm/zstore.h"
#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/ladder.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"

#define KIB_PAGE (PAGE_BYTES / 1024)

/* ---- mem-state --------------------------------------------------------------------------------- */

struct rung {
	const char *name;
	uint64_t pages, ticks;
};
#define RUNGS (RECLAIM_RUNGS + 2u)

/* Cheapest first. */
static void list_rungs(struct rung out[RUNGS])
{
	struct rung untouched = { .name = "untouched" }, balloon = { .name = "balloon" };
	uint32_t n = 0;

	for (struct guest *g = guest_next(NULL); g; g = guest_next(g)) {
		untouched.pages += g->p2m.pages[P2M_EMPTY];
		balloon.pages += g->balloon.inflate_pages;
		balloon.ticks += g->balloon.inflate_ticks;
	}
	out[n++] = untouched;
	for (uint32_t r = 0; r < RECLAIM_RUNGS; r++) {
		out[n++] = (struct rung){ reclaim_rung_name((enum reclaim_rung)r), reclaim_total.pages[r],
			reclaim_total.ticks[r] };
		if (r == RECLAIM_ZERO)
			out[n++] = balloon;
	}
}

static void state_json(const struct frame_counts *f, const char *level, const struct rung *rungs,
	const struct swap_counts *s, const struct zstore_counts *z)
{
	struct alias_counts d;
	struct json j;

	alias_counts(&d);
	command_json_begin(&j);
	json_string(&j, "level", level);
	json_u64(&j, "pool_kib", f->pool_limit * KIB_PAGE);
	json_u64(&j, "free_kib", f->pool_free * KIB_PAGE);
	json_u64(&j, "promised_kib", f->promised * KIB_PAGE);
	json_array(&j, "rungs");
	for (uint32_t i = 0; i < RUNGS; i++) {
		json_object(&j, NULL);
		json_string(&j, "name", rungs[i].name);
		json_u64(&j, "pages", rungs[i].pages);
		json_u64(&j, "ticks", rungs[i].ticks);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_u64(&j, "held", reclaim_total.held);
	json_u64(&j, "wanted_back", reclaim_total.wanted_back);
	json_u64(&j, "split_2m", reclaim_total.split);
	json_object(&j, "compressed");
	json_u64(&j, "pages", z->use.objects);
	json_u64(&j, "frames", z->data_frames + z->table_frames);
	json_u64(&j, "max_frames", z->max_frames);
	json_u64(&j, "bytes", z->use.bytes);
	json_object_end(&j);
	json_object(&j, "swap");
	json_u64(&j, "slots", s->slots);
	json_u64(&j, "used", s->used);
	json_bool(&j, "on", s->on);
	json_bool(&j, "failed", s->failed);
	json_u64(&j, "writes", s->writes);
	json_u64(&j, "written_pages", s->written_pages);
	json_u64(&j, "reads", s->reads);
	json_u64(&j, "read_pages", s->read_pages);
	json_u64(&j, "from_buffer", s->from_buffer);
	json_u64(&j, "unwritten", s->unwritten);
	json_u64(&j, "write_errors", s->write_errors);
	json_u64(&j, "read_errors", s->read_errors);
	json_u64(&j, "checksum_errors", s->checksum_errors);
	json_object_end(&j);
	json_object(&j, "own_disks");
	json_u64(&j, "known", d.known);
	json_u64(&j, "dropped", d.used);
	json_u64(&j, "broken", d.broken);
	json_u64(&j, "reads", d.reads);
	json_u64(&j, "read_pages", d.read_pages);
	json_u64(&j, "read_errors", d.errors);
	json_u64(&j, "checksum_errors", d.wrong);
	json_object_end(&j);
	command_json_end(&j);
}

static const char *swap_word(const struct swap_counts *s)
{
	return !s->slots ? "none" : s->failed ? "failed: writing it went wrong; swap on tries again" :
		!s->on	 ? "off"  :
		s->used == s->slots ? "full" : "on";
}

static void state_text(const struct frame_counts *f, const char *level, const struct rung *rungs,
	const struct swap_counts *s, const struct zstore_counts *z)
{
	struct alias_counts d;

	alias_counts(&d);
	console_printf("state %s: %s of the pool's %s are free, %s of them promised\n", level,
		command_pages(0, f->pool_free), command_pages(1, f->pool_limit), command_pages(2, f->promised));
	console_printf("%-10s %12s %14s %12s\n", "Rung", "Gave", "Ticks", "Ticks/page");
	for (uint32_t i = 0; i < RUNGS; i++)
		console_printf("%-10s %12s %14lu %12lu\n", rungs[i].name, command_pages(0, rungs[i].pages),
			rungs[i].ticks, rungs[i].pages ? rungs[i].ticks / rungs[i].pages : 0);
	if (z->max_frames)
		console_printf("compressed %s in %s, of at most %s\n", command_pages(0, z->use.objects),
			command_pages(1, z->data_frames + z->table_frames), command_pages(2, z->max_frames));
	else
		console_printf("compressed none: the configuration has neither swap = nor compressed =\n");
	if (s->slots)
		console_printf("swap       %s; %s of %s used, %lu writes, %lu reads, %lu errors\n", swap_word(s),
			command_pages(0, s->used), command_pages(1, s->slots), s->writes, s->reads,
			s->write_errors + s->read_errors + s->checksum_errors);
	else
		console_printf("swap       none\n");
	console_printf("own disks  %s dropped, %s more known; %lu reads, %lu errors\n", command_pages(0, d.used),
		command_pages(1, d.known), d.reads, d.errors + d.wrong);
	console_printf("victims    %s held, %s of them wanted back before they went\n",
		command_pages(0, reclaim_total.held), command_pages(1, reclaim_total.wanted_back));
}

void cmd_mem_state(const struct command_args *a)
{
	struct overcommit_stats o;
	struct rung rungs[RUNGS];
	struct zstore_counts z;
	struct frame_counts f;
	struct swap_counts s;

	overcommit_stats(&o);
	frame_counts(&f);
	swap_counts(&s);
	zstore_counts(&z);
	list_rungs(rungs);
	(a->json ? state_json : state_text)(&f, overcommit_level_name(o.level), rungs, &s, &z);
}

/* ---- swap -------------------------------------------------------------------------------------- */

void cmd_swap(const struct command_args *a)
{
	struct swap_counts s;

	swap_counts(&s);
	if (!s.slots) {
		command_error("swap: there is none; the configuration has no swap = \"64M\", or its disk has no "
			"room for it (dmesg)");
		return;
	}
	if (strcmp(a->word[0], "on") && strcmp(a->word[0], "off")) {
		command_error("swap: \"%.20s\"; on, or off: nothing more goes out, what is there stays readable",
			a->word[0]);
		return;
	}
	swap_set_on(!strcmp(a->word[0], "on"));
	swap_counts(&s);
	console_printf("swap: %s, %s of %s used\n", swap_word(&s), command_pages(0, s.used), command_pages(1, s.slots));
}
