/* stats: of the pool, or of one guest. One list of names and numbers serves people and machines. */
#include "mm/share.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/hcdecode.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"
#include "vmm/sched.h"
#include "vmm/sharing.h"

struct sink {
	struct json *json; /* NULL: for people, two numbers a line */
	uint32_t column;
};

static void end_row(struct sink *s)
{
	if (s->column)
		console_printf("\n");
	s->column = 0;
}

static void section(struct sink *s, const char *name)
{
	if (s->json)
		json_object(s->json, name);
	else
		console_printf("%s\n", name);
}

static void section_end(struct sink *s)
{
	if (s->json)
		json_object_end(s->json);
	else
		end_row(s);
}

static void number(struct sink *s, const char *name, uint64_t value)
{
	if (s->json)
		json_u64(s->json, name, value);
	else
		console_printf("%s%-18s %12lu%s", s->column ? "     " : "  ", name, value, s->column ? "\n" : "");
	s->column ^= 1;
}

static void sharing_section(struct sink *s)
{
	struct share_counts n;
	struct sharing_stats t;

	share_counts(&n);
	sharing_stats(&t);
	section(s, "sharing");
	number(s, "pages", t.pages);
	number(s, "frames", n.shared_frames);
	number(s, "saved", t.saved);
	number(s, "hints", n.pages + n.frames);
	number(s, "hints_wrong", n.wrong);
	number(s, "made", n.made);
	number(s, "scanned", t.scanned);
	number(s, "gained", t.gained);
	for (uint32_t r = 0; r <= MERGE_BUSY; r++)
		number(s, sharing_result_name((enum merge_result)r), t.result[r]);
	number(s, "pages_a_second", t.rate);
	number(s, "scan_us", t.spent_ns / 1000);
	section_end(s);
}

static void pool_stats(struct sink *s)
{
	struct frame_counts n;
	struct overcommit_stats o;

	frame_counts(&n);
	overcommit_stats(&o);
	if (s->json) /* people have `uptime` */
		json_u64(s->json, "idle_ms", sched_idle_tsc() / MAX(platform_tsc_khz, 1ull) / platform_cpu_count());
	section(s, "pool_pages");
	number(s, "limit", n.pool_limit);
	number(s, "used", n.pool_used);
	number(s, "free", n.pool_free);
	number(s, "promised", n.promised);
	number(s, "emergency", n.emergency);
	section_end(s);
	section(s, "frames");
	for (uint32_t i = 0; i < FRAME_STATE_COUNT; i++)
		number(s, frame_state_name((enum frame_state)i), n.by_state[i]);
	number(s, "scrubbed", n.scrubbed);
	number(s, "scrubbed_idle", n.scrubbed_idle);
	section_end(s);
	section(s, "overcommit");
	number(s, "level", o.level);
	number(s, "steps", o.steps);
	number(s, "kicks", o.kicks);
	number(s, "level_changes", o.level_changes);
	section_end(s);
	sharing_section(s);
}

/* Of a counter that each vCPU keeps. */
#define SUM(g, field)                                                                             \
	({                                                                                        \
		uint64_t sum_ = 0;                                                                \
		for (uint32_t i_ = 0; i_ < (g)->vcpu_count; i_++)                                 \
			sum_ += (g)->vcpu[i_].field;                                              \
		sum_;                                                                             \
	})

static void exit_stats(struct sink *s, const struct guest *g)
{
	section(s, "exits");
	for (uint32_t c = 0; c < VIRT_COUNTERS; c++) {
		uint64_t n = 0;
		for (uint32_t i = 0; i < g->vcpu_count; i++)
			n += g->vcpu[i].virt->count[c];
		number(s, virt_counter_name((enum virt_counter)c), n);
	}
	section_end(s);
	section(s, "hypercalls");
	for (uint32_t i = 0; i < AERO_HC_COUNT; i++)
		number(s, hc_name(i), SUM(g, hypercalls[i]));
	number(s, "errors", SUM(g, hypercall_errors));
	section_end(s);
}

static void memory_stats(struct sink *s, const struct p2m *p)
{
	section(s, "pages");
	for (uint32_t i = P2M_EMPTY; i < P2M_STATE_COUNT; i++)
		number(s, p2m_state_name((enum p2m_state)i), p->pages[i]);
	number(s, "on_own_disk", p->on_own_disk); /* of swapped */
	number(s, "in_2m", p->pages_in_2m);
	number(s, "zero_mapped", p->zero_mapped);
	number(s, "tables", p->table_count);
	section_end(s);
	section(s, "shootdowns"); /* of second-level translations */
	number(s, "rounds", p->slat.flush_count);
	number(s, "kicked_cpus", p->slat.kick_count);
	section_end(s);
	section(s, "faults");
	number(s, "populate", p->fault_populate);
	number(s, "populate_2m", p->fault_2m);
	number(s, "zero_read", p->fault_zero_read);
	number(s, "cow_zero", p->fault_cow_zero);
	number(s, "spurious", p->fault_spurious);
	number(s, "denied", p->fault_denied);
	number(s, "balloon_touch", p->balloon_touch);
	number(s, "shared", p->shared);
	number(s, "cow_copied", p->cow_copied);
	number(s, "cow_taken", p->cow_taken);
	number(s, "split_2m", p->split_2m);
	number(s, "fault_exec_2m", p->fault_exec_2m);
	number(s, "join_2m", p->join_2m);
	number(s, "gathered_2m", p->gathered_2m);
	section_end(s);
}

static void balloon_stats(struct sink *s, const struct balloon *b)
{
	section(s, "balloon");
	number(s, "target", b->target_pages);
	number(s, "actual", balloon_actual_pages(b));
	number(s, "inflated", b->inflate_pages);
	number(s, "inflated_2m", b->inflate_2m);
	number(s, "deflated", b->deflate_pages);
	number(s, "deflated_urgent", b->deflate_urgent_pages);
	number(s, "refused_ranges", b->refused_ranges);
	number(s, "reports", b->report_count);
	number(s, "backoffs", b->backoff_count);
	number(s, "statistics", b->stats_count);
	number(s, "pressure", b->pressure_count);
	section_end(s);
}

static void words(struct sink *s, const char *name, const char *text)
{
	if (s->json) {
		json_string(s->json, name, text);
		return;
	}
	end_row(s);
	console_printf("  %-18s %s\n", name, text);
}

static void activity_stats(struct sink *s, const struct guest *g)
{
	const struct sampling *m = &g->sampling;
	uint64_t active = sampling_active_pages(g);

	section(s, "activity");
	number(s, "active_pages", MIN(active, g->p2m.gfn_count));
	number(s, "permille", activity_permille(&m->activity));
	number(s, "stalled_permille", stall_permille(&g->stall.average));
	number(s, "rounds", m->rounds);
	number(s, "sampled", m->last.sampled);
	number(s, "touched", m->last.touched);
	number(s, "spent_ticks", m->spent_tsc_all);
	words(s, "estimate", hv_config.sampling == CONFIG_SAMPLING_OFF ? "off" :
		activity_confidence_name(activity_confidence(&m->activity)));
	words(s, "seen_by", m->way == SAMPLE_ACCESSED ? "accessed bits" : "invalidation");
	words(s, "claim", activity_fit_text(m->activity.fit));
	section_end(s);
}

static void guest_stats(struct sink *s, const struct guest *g)
{
	exit_stats(s, g);
	memory_stats(s, &g->p2m);
	balloon_stats(s, &g->balloon);
	activity_stats(s, g);
	section(s, "waits");
	number(s, "count", SUM(g, wait_count));
	number(s, "total_us", SUM(g, wait_ns_total) / 1000);
	number(s, "swap_count", SUM(g, disk_wait_count));
	number(s, "swap_total_us", SUM(g, disk_wait_ns_total) / 1000);
	number(s, "gave_way", SUM(g, gave_way)); /* turns, to another of its vCPUs */
	number(s, "grace_pages", g->grace_total);
	number(s, "outside_accesses", SUM(g, access_outside));
	section_end(s);
	section(s, "disk");
	number(s, "reads", g->disk.reads);
	number(s, "read_sectors", g->disk.read_sectors);
	number(s, "writes", g->disk.writes);
	number(s, "write_sectors", g->disk.write_sectors);
	number(s, "errors", g->disk.errors);
	section_end(s);
}

void cmd_stats(const struct command_args *a)
{
	struct guest *g = NULL;
	struct json j;
	struct sink s = { a->json ? &j : NULL, 0 };

	if (a->count && !(g = command_guest(a->word[0])))
		return;
	if (a->json)
		command_json_begin(&j);
	if (g)
		guest_stats(&s, g);
	else
		pool_stats(&s);
	if (a->json)
		command_json_end(&j);
	else
		end_row(&s);
}
