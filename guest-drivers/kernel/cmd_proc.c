/* Commands about processes and the guest as a whole. */
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/format.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"
#include "guest-drivers/kernel/timer.h"
#include "guest-drivers/kernel/user.h"

static const char *state_of(const struct proc *p)
{
	if (p->state == PROC_ENDED)
		return p->exit_code == EXIT_OOM ? "oom" : p->exit_code == EXIT_KILLED ? "killed" : "ended";
	if (!p->thread)
		return "new";
	return p->thread->state == THREAD_BLOCKED ? "sleep" : "run";
}

static void ps(unsigned int count, char **words)
{
	(void)count, (void)words;
	print("%5s %-8s%8s%8s%9s%9s%8s%8s%6s  %s\n", "PID", "STATE", "RSS", "SWAP", "MINFLT", "MAJFLT",
	      "PASSES", "ERRORS", "EXIT", "COMMAND");
	for (uint32_t i = 0; i < PROC_MAX; i++) {
		const struct proc *p = proc_by_index(i);

		if (p->state != PROC_UNUSED)
			print("%5u %-8s%7uK%7uK%9lu%9lu%8lu%8lu%6d  %s\n", p->pid, state_of(p),
			      p->vm.rss * 4, p->vm.swapped * 4, p->minor_faults, p->major_faults,
			      p->passes, p->errors, p->exit_code, p->name);
	}
	for (uint32_t i = 0; i < THREAD_MAX; i++) {
		const struct thread *t = sched_thread(i);

		if (t->state != THREAD_UNUSED && !t->proc)
			print("    - %-8s  [%s]\n", t->state == THREAD_BLOCKED ? "sleep" : "run", t->name);
	}
}

static const struct user_workload *workload(const char *name)
{
	for (const struct user_workload *w = user_workloads; w->name; w++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}

static void run_usage(void)
{
	print("run what?\n");
	for (const struct user_workload *w = user_workloads; w->name; w++)
		print("  run %s %s: %s\n", w->name, w->arguments, w->help);
}

static void run(unsigned int count, char **words)
{
	const struct user_workload *w = count > 1 ? workload(words[1]) : NULL;
	uint64_t args[PROC_ARGS] = { 0 };
	char name[24];
	size_t n = 0;

	if (!w) {
		run_usage();
		return;
	}
	if (count - 2 < w->sizes_min || count - 2 > w->sizes_max) {
		print("run %s %s\n", w->name, w->arguments);
		return;
	}
	for (unsigned int i = 2; i < count; i++)
		if (!text_size(words[i], &args[i - 2]) || args[i - 2] > 1ull << 30) {
			print("'%s': a size like 512k or 8M, at most 1G\n", words[i]);
			return;
		}
	if (args[0] < PAGE_BYTES) {
		print("'%s': at least 4k\n", words[2]);
		return;
	}
	for (unsigned int i = 1; i < count; i++)
		for (const char *s = words[i]; n + 2 < sizeof(name) && (*s || i + 1 < count);)
			if (*s) {
				name[n++] = *s++;
			} else {
				name[n++] = ' ';
				break;
			}
	name[n] = '\0';
	args[3] = rdtsc() | 1;
	uint32_t pid = proc_start(name, (uint64_t)w->entry, args);

	if (pid)
		print("[%u] %s\n", pid, name);
	else
		print("cannot start it: no memory, or %u processes run already\n", PROC_MAX);
}

static struct proc *named_process(unsigned int count, char **words)
{
	uint64_t pid;

	if (count != 2 || !text_number(words[1], &pid)) {
		print("%s PID\n", words[0]);
		return NULL;
	}
	struct proc *p = pid <= UINT32_MAX ? proc_by_pid((uint32_t)pid) : NULL;

	if (!p)
		print("%s: no process %s\n", words[0], words[1]);
	return p;
}

static void kill(unsigned int count, char **words)
{
	struct proc *p = named_process(count, words);

	if (!p)
		return;
	if (p->state != PROC_RUNNING) {
		print("kill: pid %u has ended\n", p->pid);
		return;
	}
	preempt_off();
	proc_kill(p, EXIT_KILLED);
	preempt_on();
}

static void wait(unsigned int count, char **words)
{
	struct proc *p = named_process(count, words);

	if (!p)
		return;
	uint32_t pid = p->pid;

	irq_off();
	while (p->pid == pid && p->state == PROC_RUNNING)
		sched_block(&proc_ended, NEVER);
	irq_on();
}

/* In one piece: what processes say in the meantime comes before it or behind it. */
static void echo(unsigned int count, char **words)
{
	char text[160]; /* as long as a line */
	size_t n = 0;

	for (unsigned int i = 1; i < count; i++) {
		size_t bytes = MIN(strlen(words[i]), sizeof(text) - 2 - n);

		memcpy(text + n, words[i], bytes);
		n += bytes;
		if (i + 1 < count && n < sizeof(text) - 2)
			text[n++] = ' ';
	}
	text[n] = '\0';
	print("%s\n", text);
}

static void uptime(unsigned int count, char **words)
{
	uint64_t ms = now_ns() / NS_PER_MS, shared_ms = shared_ns() / NS_PER_MS;

	(void)count, (void)words;
	print("up %lu.%03lu s, idle %lu ms, %lu switches, tsc %u kHz, shared clock %lu ms\n",
	      ms / 1000, ms % 1000, sched_idle_ticks() / hv_tsc_khz(), sched_switches(), hv_tsc_khz(),
	      shared_ms);
}

static void poweroff(unsigned int count, char **words)
{
	(void)count, (void)words;
	hv_shutdown(AERO_SHUTDOWN_POWEROFF, 0);
}

static void crash(unsigned int count, char **words)
{
	if (count == 2 && !strcmp(words[1], "triple")) {
		const struct {
			uint16_t limit;
			uint64_t base;
		} __attribute__((packed)) none = { 0, 0 };

		irq_off();
		__asm__ volatile("lidt %0; ud2" : : "m"(none));
	} else if (count == 2 && !strcmp(words[1], "oops")) {
		__asm__ volatile("movq $0, 8" : : : "memory"); /* page 0 is not mapped */
	} else {
		print("crash triple|oops\n");
	}
}

const struct command commands_proc[] = {
	{ "ps", "", "processes, their memory, passes and errors", ps, false },
	{ "run", "WORKLOAD SIZE [...]", "starts a workload; alone: which there are", run, false },
	{ "kill", "PID", "", kill, false },
	{ "wait", "PID", "until it has ended", wait, false },
	{ "echo", "[WORD...]", "", echo, false },
	{ "uptime", "", "", uptime, false },
	{ "poweroff", "", "", poweroff, false },
	{ "crash", "triple|oops", "ends this guest badly", crash, false },
	{ 0 },
};
