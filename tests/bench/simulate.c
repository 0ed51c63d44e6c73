/*
 * The real policy over modelled guests (tests/fake/memsim.h), on the build host: `simulate --help`.
 * And over its own inputs as a hypervisor printed them (balloon/policy_trace.h): the same plans must come out.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "balloon/policy_trace.h"
#include "tests/bench/sim_demand.h"
#include "tests/bench/sim_draw.h"
#include "tests/fake/memsim.h"
#include "vmm/base/parse.h"

#define SAMPLE_STEPS 10u

static struct options {
	uint32_t guests, tax, seconds;
	uint64_t pool_pages, memory_pages, seed, disk_rate;
	bool mixed; /* drivers of all kinds */
	const char *out, *demand, *trace;
} options = { .guests = 10, .tax = POLICY_TAX_PERCENT, .seconds = 60, .pool_pages = 30720, .seed = 1, .disk_rate = 20,
	.out = "build/simulate" };

static const char help[] =
	"simulate [OPTIONS] [SCENE...]    steady spikes diurnal idle-vs-busy ten-spikes one-disk; "
	"all if none is named\n"
	"simulate --demand FILE           what each guest wants, recorded: lines MS GUEST PAGES [HOT percent]\n"
	"simulate replay LOG              the policy's inputs from a serial log: makes each plan again and compares\n"
	"simulate cost                    what a step costs: 10, 100, 1,000, 10,000 guests\n"
	"  --guests N (10)  --pool SIZE (120M)  --memory SIZE, of a guest (1.33 pools in all)\n"
	"  --tax PERCENT (75)  --seconds N (60)  --seed N (1)  --out DIR (build/simulate)\n"
	"  --disk PAGES (20): a step of 10 ms, of the disk that all share in one-disk\n"
	"  --mixed: of five guests one is slow, one lies, one refuses, one has no driver\n"
	"  --trace FILE: also prints every step's input and plan as the hypervisor does\n";

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void *need(size_t count, size_t bytes)
{
	void *p = calloc(count ? count : 1, bytes);

	if (!p)
		perror("simulate"), exit(1);
	return p;
}

/* ---- a simulation ---- */
static void build(struct memsim *s, uint32_t n, uint64_t pool_pages, uint64_t memory_pages)
{
	*s = (struct memsim){ .count = n, .pool = { .pool_pages = pool_pages,
		.emergency_pages = MIN(256u, pool_pages / 64), .tax_percent = options.tax } };
	s->guest = need(n, sizeof(*s->guest));
	s->view = need(n, sizeof(*s->view));
	s->target = need(n, sizeof(*s->target));
	s->scratch = need(n, sizeof(*s->scratch));
	for (uint32_t i = 0; i < n; i++) {
		struct policy_guest *v = &s->guest[i].view;
		v->memory_pages = v->max_pages = v->operator_pages = memory_pages;
		v->min_pages = memory_pages / 8;
		v->shares = 1000;
		v->deadline_ns = POLICY_DEADLINE_NS;
		s->guest[i].driver = options.mixed ? (enum memsim_driver)(i % 5) : MEMSIM_GOOD;
		s->guest[i].hot_percent = 100;
	}
	memsim_init(s);
}

static void scrap(struct memsim *s)
{
	free(s->guest);
	free(s->view);
	free(s->target);
	free(s->scratch);
}

static void print_trace(FILE *f, const struct memsim *s, enum policy_level before)
{
	char line[POLICY_TRACE_BYTES];
	struct policy_pool pool = s->pool;

	if (!f)
		return;
	pool.level = before;
	policy_trace_step(line, &pool, s->count, s->step * MEMSIM_STEP_NS / 1000000);
	fprintf(f, "%s\n", line);
	for (uint32_t i = 0; i < s->count; i++) {
		policy_trace_guest(line, &s->view[i]);
		fprintf(f, "%s\n", line);
	}
	policy_trace_plan(line, &s->plan, s->count);
	fprintf(f, "%s\n", line);
}

static void report(const struct memsim *s, const uint64_t *fed_steps)
{
	uint64_t least = UINT64_MAX, most = 0, moves = 0, waits = 0, taken = 0, brought = 0, paged = 0;
	uint64_t low = UINT64_MAX, high = 0;

	for (uint32_t i = 0; i < s->count; i++) {
		const struct memsim_guest *g = &s->guest[i];
		moves += g->moves;
		waits += g->wait_steps;
		taken += g->taken_pages;
		brought += g->brought_pages;
		paged += g->paged_pages;
		least = MIN(least, g->frames);
		most = MAX(most, g->frames);
		low = MIN(low, fed_steps[i]);
		high = MAX(high, fed_steps[i]);
	}
	double guest_s = (double)(s->step * s->count) / 100;
	printf("  a guest in a second: %.2f target moves, %.1f ms waited, %.1f pages taken by the lower rungs, "
	       "%.1f brought back, %.1f paged out by itself\n", (double)moves / guest_s,
		(double)waits * 10 / guest_s, (double)taken / guest_s, (double)brought / guest_s,
		(double)paged / guest_s);
	printf("  had all they wanted in RAM: %.1f%% (worst guest) to %.1f%% (best) of the time; "
	       "%lu changes of state\n",
		100.0 * (double)low / (double)s->step, 100.0 * (double)high / (double)s->step,
		s->level_changes);
	printf("  in the end the smallest holds %lu pages, the largest %lu\n", least, most);
}

static void sample(struct sim_drawing *d, const struct memsim *s, struct sim_sample *samples)
{
	for (uint32_t i = 0; i < s->count; i++)
		samples[i] = (struct sim_sample){ s->guest[i].want_pages, s->guest[i].frames,
			s->guest[i].balloon, s->guest[i].swapped };
	sim_draw_sample(d, (double)s->step / 100, s->pool.free_pages, s->pool.level, samples);
}

/* What all guests want from `ms` on. `scene` is SIM_SCENES if it is recorded; *at runs through it. */
static void set_wants(struct memsim *s, enum sim_scene scene, const struct sim_record *record, long count,
	long *at, uint64_t ms)
{
	for (; *at < count && record[*at].ms <= ms; ++*at)
		if (record[*at].guest < s->count) {
			struct memsim_guest *g = &s->guest[record[*at].guest];
			g->want_pages = MIN(record[*at].want.pages, g->view.memory_pages);
			g->hot_percent = record[*at].want.hot_percent;
		}
	for (uint32_t i = 0; scene != SIM_SCENES && i < s->count; i++) {
		struct sim_want w = sim_made_up(scene, options.seed, i, ms, options.seconds * 1000ull,
			s->guest[i].view.memory_pages);
		s->guest[i].want_pages = w.pages;
		s->guest[i].hot_percent = w.hot_percent;
	}
}

static int simulate(const char *name, enum sim_scene scene, const struct sim_record *record, long count)
{
	uint64_t *fed = need(options.guests, sizeof(*fed)), start = now_ns();
	struct sim_sample *samples = need(options.guests, sizeof(*samples));
	FILE *trace = options.trace ? fopen(options.trace, "w") : NULL;
	const char *wrong = NULL;
	struct sim_drawing d;
	struct memsim s;
	long at = 0;

	if ((options.trace && !trace) || sim_draw_begin(&d, options.out, name, options.guests))
		return perror(options.out), 1;
	build(&s, options.guests, options.pool_pages, options.memory_pages);
	s.disk_rate = scene == SIM_DISK ? options.disk_rate : 0;
	while (s.step < options.seconds * 100ull && !wrong) {
		set_wants(&s, scene, record, count, &at, s.step * 10);
		enum policy_level before = s.pool.level;
		memsim_step(&s);
		wrong = memsim_check(&s);
		print_trace(trace, &s, before);
		for (uint32_t i = 0; i < s.count; i++)
			fed[i] += s.guest[i].in_use - s.guest[i].swapped >= s.guest[i].want_pages;
		if (s.step % SAMPLE_STEPS == 0)
			sample(&d, &s, samples);
	}
	printf("%s: %u guests, %u s in %.1f s\n", name, s.count, options.seconds,
		(double)(now_ns() - start) / 1e9);
	if (wrong)
		fprintf(stderr, "%s: step %lu: %s\n", name, s.step, wrong);
	report(&s, fed);
	scrap(&s);
	free(fed);
	free(samples);
	return (trace && fclose(trace)) || sim_draw_end(&d) || wrong;
}

/* ---- a recorded run ---- */
struct replay {
	uint64_t steps, same, bad_lines, cut;
	uint32_t guests, expected, room;
	struct policy_pool pool;
	uint64_t time_ms, first_ms;
	struct policy_guest *guest;
	struct policy_target *target;
	struct policy_part *scratch;
	struct sim_sample *samples;
	struct sim_drawing d;
	bool drawing;
};

static void replay_guest(struct replay *r, const struct policy_guest *g)
{
	if (r->guests == r->room) {
		r->room = r->room ? 2 * r->room : 64;
		r->guest = realloc(r->guest, r->room * sizeof(*r->guest));
		r->target = realloc(r->target, r->room * sizeof(*r->target));
		r->scratch = realloc(r->scratch, r->room * sizeof(*r->scratch));
		r->samples = realloc(r->samples, r->room * sizeof(*r->samples));
	}
	uint64_t demand = g->stats_fresh ? g->in_use_pages : g->used_pages;
	r->samples[r->guests] = (struct sim_sample){ MIN(demand, g->memory_pages) + MIN(g->wanted_pages,
		g->memory_pages), g->used_pages, g->balloon_pages, g->swapped_pages + g->compressed_pages };
	r->guest[r->guests++] = *g;
}

static void replay_plan(struct replay *r, const struct policy_trace *t)
{
	struct policy_plan plan = { .guest = r->target };

	if (r->guests != r->expected || !r->guests) {
		r->cut++; /* the log lost lines of it */
		return;
	}
	policy_step(&r->pool, r->guest, r->guests, r->scratch, &plan);
	bool same = t->hash == policy_trace_hash(&plan, r->guests);
	r->same += same;
	if (!same)
		fprintf(stderr, "at %lu ms: another plan\n", r->time_ms);
	if (!r->steps++) {
		r->first_ms = r->time_ms;
		r->drawing = !sim_draw_begin(&r->d, options.out, "replay", r->guests);
	}
	if (r->drawing && r->guests == r->d.guest_count)
		sim_draw_sample(&r->d, (double)(r->time_ms - r->first_ms) / 1000, r->pool.free_pages,
			r->pool.level, r->samples);
}

static int replay(const char *path)
{
	struct replay r = { 0 };
	struct policy_trace t;
	char line[1024];
	FILE *f = fopen(path, "r");

	if (!f)
		return perror(path), 1;
	while (fgets(line, sizeof(line), f))
		switch (policy_trace_parse(line, strlen(line), &t)) {
		case POLICY_TRACE_STEP:
			r.pool = t.pool;
			r.time_ms = t.time_ms;
			r.expected = (uint32_t)t.guest_count;
			r.guests = 0;
			break;
		case POLICY_TRACE_GUEST:
			replay_guest(&r, &t.guest);
			break;
		case POLICY_TRACE_PLAN:
			replay_plan(&r, &t);
			r.guests = 0;
			break;
		case POLICY_TRACE_BAD:
			r.bad_lines++;
			break;
		default:
			break;
		}
	fclose(f);
	printf("%s: %lu steps, %lu plans the same, %lu steps incomplete, %lu bad lines\n", path, r.steps, r.same,
		r.cut, r.bad_lines);
	int code = r.drawing && sim_draw_end(&r.d);
	free(r.guest), free(r.target), free(r.scratch), free(r.samples);
	return code || !r.steps || r.same != r.steps;
}

/* ---- cost ---- */
/* All spike at once: nothing fits, all have to be looked at as often as it gets. */
static void build_spike(struct memsim *s, uint32_t n)
{
	build(s, n, 3000ull * n, 4096);
	for (uint32_t k = 0; k < 40; k++) {
		for (uint32_t i = 0; i < n; i++)
			s->guest[i].want_pages = 2000 + i * 7 % 2000;
		memsim_step(s);
	}
	s->pool.level = POLICY_LOW;
	s->pool.free_pages = 0;
}

/* Counted one by one, by stepping through it: exact, and it needs no counter of the host. 0: not allowed. */
static uint64_t instructions_of(const struct memsim *s)
{
	struct policy_plan plan = s->plan;
	uint64_t count = 0;
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(1);
		raise(SIGSTOP);
		policy_step(&s->pool, s->view, s->count, s->scratch, &plan);
		raise(SIGSTOP);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		return 0;
	do {
		count++;
		if (ptrace(PTRACE_SINGLESTEP, child, 0, 0) || waitpid(child, &status, 0) != child)
			return 0;
	} while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	ptrace(PTRACE_CONT, child, 0, 0);
	(void)waitpid(child, &status, 0);
	return count;
}

static double cost_of(uint32_t n)
{
	struct memsim s;
	uint64_t ns = UINT64_MAX, steps = 400000 / n + 1;

	build_spike(&s, n);
	for (uint32_t round = 0; round < 9; round++) { /* the best: the others were disturbed */
		uint64_t start = now_ns();
		for (uint64_t k = 0; k < steps; k++)
			policy_step(&s.pool, s.view, n, s.scratch, &s.plan);
		ns = MIN(ns, (now_ns() - start) / steps);
	}
	uint64_t counted = n <= 100 ? instructions_of(&s) : 0; /* more would take minutes */
	printf("bench policy_step_%u %lu ns, %.1f ns a guest", n, ns, (double)ns / n);
	if (counted)
		printf(", %.0f instructions a guest", (double)counted / n);
	printf("\n");
	scrap(&s);
	return (double)ns / n;
}

static int cost(void)
{
	double best = 1e18, worst = 0;

	for (uint32_t n = 10; n <= 10000; n *= 10) {
		double a = cost_of(n);
		best = a < best ? a : best;
		worst = a > worst ? a : worst;
	}
	printf("policy_step: %.2f times as long a guest at worst as at best: %s\n", worst / best,
		worst < 3 * best ? "linear" : "NOT LINEAR");
	return worst >= 3 * best;
}

/* ---- command line ---- */
static uint64_t size_pages(const char *text)
{
	uint64_t bytes;

	if (parse_size(text, 1024, &bytes) != OK || bytes < MIB(1)) {
		fprintf(stderr, "simulate: %s: should be a size of at least 1M\n", text);
		exit(2);
	}
	return bytes / PAGE_BYTES;
}

static void read_options(int argc, char **argv)
{
	static const struct option known[] = { { "guests", 1, 0, 'g' }, { "pool", 1, 0, 'p' },
		{ "memory", 1, 0, 'm' }, { "tax", 1, 0, 't' }, { "seconds", 1, 0, 's' }, { "seed", 1, 0, 'r' },
		{ "out", 1, 0, 'o' }, { "mixed", 0, 0, 'x' }, { "demand", 1, 0, 'd' }, { "trace", 1, 0, 'T' },
		{ "disk", 1, 0, 'D' },
		{ "help", 0, 0, 'h' }, { 0, 0, 0, 0 } };

	for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
		switch (c) {
		case 'g': options.guests = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'p': options.pool_pages = size_pages(optarg); break;
		case 'm': options.memory_pages = size_pages(optarg); break;
		case 't': options.tax = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 's': options.seconds = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'r': options.seed = strtoull(optarg, NULL, 0); break;
		case 'o': options.out = optarg; break;
		case 'x': options.mixed = true; break;
		case 'd': options.demand = optarg; break;
		case 'D': options.disk_rate = strtoull(optarg, NULL, 10); break;
		case 'T': options.trace = optarg; break;
		default: fputs(help, c == 'h' ? stdout : stderr); exit(c == 'h' ? 0 : 2);
		}
	if (!options.guests || options.guests > 10000 || options.tax > POLICY_TAX_MAX || !options.disk_rate ||
		options.pool_pages > GIB(1024) / PAGE_BYTES) {
		fprintf(stderr, "simulate: 1 to 10000 guests, a tax of 0 to 99, a pool of at most 1T\n");
		exit(2);
	}
	if (!options.memory_pages)
		options.memory_pages = MAX(options.pool_pages * 4 / 3 / options.guests, 256u);
}

static int run_demand(void)
{
	struct sim_record *record;
	long count = sim_read_demand(options.demand, &record);
	int code = count < 0 ? 1 : simulate("recorded", SIM_SCENES, record, count);

	free(record);
	return code;
}

int main(int argc, char **argv)
{
	int code = 0;

	read_options(argc, argv);
	mkdir("build", 0777);
	mkdir(options.out, 0777);
	if (options.demand)
		return run_demand();
	if (optind + 2 == argc && !strcmp(argv[optind], "replay"))
		return replay(argv[optind + 1]);
	if (optind + 1 == argc && !strcmp(argv[optind], "cost"))
		return cost();
	for (uint32_t scene = 0; scene < SIM_SCENES; scene++) {
		bool named = optind == argc;
		for (int i = optind; i < argc; i++)
			named |= !strcmp(argv[i], sim_scene_name[scene]);
		if (named)
			code |= simulate(sim_scene_name[scene], (enum sim_scene)scene, NULL, 0);
	}
	for (int i = optind; i < argc; i++) {
		uint32_t scene = 0;
		while (scene < SIM_SCENES && strcmp(argv[i], sim_scene_name[scene]))
			scene++;
		if (scene == SIM_SCENES)
			fprintf(stderr, "simulate: %s: no such scene\n%s", argv[i], help), code = 2;
	}
	return optind == argc ? code | cost() : code;
}
