/* Processors and who runs on them: cpus, vcpu-list, vcpu-pin, sched. */
#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/platform.h"
#include "vmm/sched.h"

#define CPUS_TEXT 32u

static uint64_t to_ms(uint64_t tsc)
{
	return tsc / MAX(platform_tsc_khz, 1ull);
}

/* ---- cpus ------------------------------------------------------------------------------------- */

static void cpus_row(uint32_t i, const struct sched_cpu_stats *s, const char *runs)
{
	uint64_t idle = to_ms(s->idle_tsc), guest = to_ms(s->guest_tsc);

	console_printf("%3u %7u %8lu.%lu %8lu.%lu %9lu %7lu %9lu %8u  %s\n", i, platform_cpu_apic_id(i),
		guest / 1000, guest % 1000 / 100, idle / 1000, idle % 1000 / 100, s->switches, s->steals,
		s->lock_contended, s->waiting, runs);
}

static void cpus_json(struct json *j, uint32_t i, const struct sched_cpu_stats *s, const char *runs)
{
	json_object(j, NULL);
	json_u64(j, "cpu", i);
	json_u64(j, "apic_id", platform_cpu_apic_id(i));
	json_u64(j, "guest_ms", to_ms(s->guest_tsc));
	json_u64(j, "idle_ms", to_ms(s->idle_tsc));
	json_u64(j, "switches", s->switches);
	json_u64(j, "steals", s->steals);
	json_u64(j, "wakes", s->wakes);
	json_u64(j, "lock_contended", s->lock_contended);
	json_u64(j, "waiting", s->waiting);
	json_string(j, "running", runs);
	json_object_end(j);
}

void cmd_cpus(const struct command_args *a)
{
	struct json j;

	if (a->json) {
		command_json_begin(&j);
		json_array(&j, "cpus");
	} else {
		console_printf("%3s %7s %10s %10s %9s %7s %9s %8s  %s\n", "CPU", "APIC-ID", "Guests(s)",
			"Idle(s)", "Switches", "Steals", "Contended", "Waiting", "Runs");
	}
	for (uint32_t i = 0; i < platform_cpu_count(); i++) {
		struct sched_cpu_stats s;

		sched_cpu_stats(i, &s);
		/* Guests come and go on CPU 0 only, which is here. */
		const char *runs = s.running ? s.running->guest->config.name : i ? "-" : "this console";

		if (a->json)
			cpus_json(&j, i, &s, runs);
		else
			cpus_row(i, &s, runs);
	}
	if (a->json) {
		json_array_end(&j);
		command_json_end(&j);
	}
}

/* ---- vcpu-list -------------------------------------------------------------------------------- */

/* xl's three letters; w for who waits for memory, d for who waits for the disk. */
static const char *letters(const struct vcpu *v, enum vcpu_state s)
{
	switch (s) {
	case VCPU_RUNNABLE:
	case VCPU_RUNNING:
		return "r--";
	case VCPU_HALTED:
		return "-b-";
	case VCPU_WAIT_MEMORY:
		return "-w-";
	case VCPU_WAIT_DISK:
		return "-d-";
	case VCPU_STOPPED:
		break;
	}
	return v->guest->state == GUEST_PAUSED ? "--p" : "---";
}

static const char *state_name(enum vcpu_state s)
{
	static const char *const names[] = {
		[VCPU_RUNNABLE] = "runnable", [VCPU_RUNNING] = "running", [VCPU_HALTED] = "blocked",
		[VCPU_WAIT_MEMORY] = "waits-for-memory",
		[VCPU_WAIT_DISK] = "waits-for-disk", [VCPU_STOPPED] = "stopped",
	};

	return (uint32_t)s < ARRAY_COUNT(names) ? names[s] : "?";
}

static bool has_cpu(enum vcpu_state s)
{
	return s == VCPU_RUNNABLE || s == VCPU_RUNNING || s == VCPU_HALTED;
}

static void vcpu_row(const struct guest *g, uint32_t i)
{
	const struct vcpu *v = &g->vcpu[i];
	enum vcpu_state s = vcpu_state(v);
	uint64_t ms = to_ms(v->cpu_tsc);
	char affinity[CPUS_TEXT], cpu[8] = "-";

	if (has_cpu(s))
		fmt_snprintf(cpu, sizeof(cpu), "%u", vcpu_cpu(v));
	console_printf("%-*s %5u %5u %4s  %-5s %8lu.%lu  %s\n", command_name_columns(), g->config.name,
		g->id, i, cpu, letters(v, s), ms / 1000, ms % 1000 / 100,
		format_cpus(affinity, sizeof(affinity), v->fair.cpus, platform_cpu_count()));
}

static void vcpu_json(struct json *j, const struct guest *g, uint32_t i)
{
	const struct vcpu *v = &g->vcpu[i];
	enum vcpu_state s = vcpu_state(v);
	char affinity[CPUS_TEXT];

	json_object(j, NULL);
	json_string(j, "name", g->config.name);
	json_u64(j, "id", g->id);
	json_u64(j, "vcpu", i);
	json_i64(j, "cpu", has_cpu(s) ? (int64_t)vcpu_cpu(v) : -1);
	json_string(j, "state", state_name(s));
	json_u64(j, "cpu_ms", to_ms(v->cpu_tsc));
	json_u64(j, "waits", v->wait_count);
	json_string(j, "affinity", format_cpus(affinity, sizeof(affinity), v->fair.cpus, platform_cpu_count()));
	json_object_end(j);
}

void cmd_vcpu_list(const struct command_args *a)
{
	struct guest *g = a->count ? command_guest(a->word[0]) : guest_next(NULL);
	struct json j;

	if (a->count && !g)
		return;
	if (a->json) {
		command_json_begin(&j);
		json_array(&j, "vcpus");
	} else {
		console_printf("%-*s %5s %5s %4s  %-5s %10s  %s\n", command_name_columns(), "Name", "ID",
			"VCPU", "CPU", "State", "Time(s)", "Affinity");
	}
	for (; g; g = a->count ? NULL : guest_next(g))
		for (uint32_t i = 0; i < g->vcpu_count; i++) {
			if (a->json)
				vcpu_json(&j, g, i);
			else
				vcpu_row(g, i);
		}
	if (a->json) {
		json_array_end(&j);
		command_json_end(&j);
	}
}

/* ---- vcpu-pin --------------------------------------------------------------------------------- */

static bool take_mask(const char *word, uint64_t *mask)
{
	uint32_t count = platform_cpu_count();

	*mask = UINT64_MAX;
	if (!strcmp(word, "all"))
		return true;
	if (parse_cpus(word, mask) != OK)
		command_error("vcpu-pin: \"%.24s\" is no list of CPUs; use all, 0, 0-3 or 0-1,3", word);
	else if (!(*mask & UINT64_MAX >> (64 - count)))
		command_error("vcpu-pin: none of %.24s runs; there %s 0 to %u", word,
			count == 1 ? "is" : "are", count - 1);
	else
		return true;
	return false;
}

void cmd_vcpu_pin(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);
	bool all = !strcmp(a->word[1], "all");
	uint64_t which = 0, mask;

	if (!g)
		return;
	if (!all && (parse_u64(a->word[1], UINT32_MAX, &which) != OK || which >= g->vcpu_count)) {
		command_error("vcpu-pin: %s has no vCPU \"%.12s\"; it has 0 to %u, or all", g->config.name,
			a->word[1], g->vcpu_count - 1);
		return;
	}
	if (!take_mask(a->word[2], &mask))
		return;
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		if (all || i == which)
			sched_set(&g->vcpu[i], g->vcpu[i].fair.weight, mask);
}

/* ---- sched ------------------------------------------------------------------------------------ */

static void sched_row(struct json *j, const struct guest *g)
{
	uint64_t ms = 0;

	for (uint32_t i = 0; i < g->vcpu_count; i++)
		ms += to_ms(g->vcpu[i].cpu_tsc);
	if (!j) {
		console_printf("%-*s %5u %8u %6u %10u %8lu.%lu\n", command_name_columns(), g->config.name, g->id,
			g->config.cpu_shares, g->vcpu_count, g->vcpu[0].fair.weight, ms / 1000, ms % 1000 / 100);
		return;
	}
	json_object(j, NULL);
	json_string(j, "name", g->config.name);
	json_u64(j, "id", g->id);
	json_u64(j, "cpu_shares", g->config.cpu_shares);
	json_u64(j, "vcpus", g->vcpu_count);
	json_u64(j, "vcpu_weight", g->vcpu[0].fair.weight);
	json_u64(j, "cpu_ms", ms);
	json_object_end(j);
}

void cmd_sched(const struct command_args *a)
{
	struct guest *g = a->count ? command_guest(a->word[0]) : guest_next(NULL);
	uint64_t shares;
	struct json j;

	if (a->count && !g)
		return;
	if (a->count == 2) {
		if (parse_u64(a->word[1], FAIR_WEIGHT_MAX, &shares) != OK || !shares) {
			command_error("sched: cpu-shares \"%.20s\"; 1 to %u", a->word[1], FAIR_WEIGHT_MAX);
			return;
		}
		guest_set_cpu_shares(g, (uint32_t)shares);
		if (!a->json)
			return;
	}
	if (a->json) {
		command_json_begin(&j);
		json_u64(&j, "slice_us", SCHED_SLICE_US);
		json_array(&j, "guests");
	} else {
		console_printf("weighted fair, slice %u us, %u CPU%s\n", SCHED_SLICE_US, platform_cpu_count(),
			platform_cpu_count() == 1 ? "" : "s");
		console_printf("%-*s %5s %8s %6s %10s %10s\n", command_name_columns(), "Name", "ID", "Shares",
			"VCPUs", "Each-VCPU", "Time(s)");
	}
	for (; g; g = a->count ? NULL : guest_next(g))
		sched_row(a->json ? &j : NULL, g);
	if (a->json) {
		json_array_end(&j);
		command_json_end(&j);
	}
}
