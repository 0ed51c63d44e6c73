#include "vmm/hypercall.h"

#include "mm/audit.h"
#include "vmm/block.h"
#include "vmm/disk_turn.h"
#include "vmm/hcdecode.h"
#include "vmm/memwait.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"
#include "vmm/sched.h"

/* What a handler returns besides a value or -AERO_E*. No AERO_E* is as large. */
#define HC_AGAIN INT64_MIN       /* a page is not to be had now: wait, then run it again */
#define HC_GONE  (INT64_MIN + 1) /* the guest is not RUNNING any more */
#define HC_DISK  (INT64_MIN + 2) /* another has the disk: run it again later */
#define HC_SWAP  (INT64_MIN + 3) /* call_gpa is being read from swap: run it again then */

#define CONSOLE_CHUNK 256u
#define SCRUB_MAX     8192u /* frames a call: bounds its time */

typedef int64_t (*hc_fn)(struct vcpu *v, uint64_t a, uint64_t b, uint64_t c);

/* A copy failed. The range was checked, so its memory is short, or out, but for a hole in it. */
static int64_t copy_error(struct vcpu *v, status_t s, uint64_t gpa, uint64_t bytes, uint32_t access)
{
	if (s == ERR_IO) {
		guest_page_lost(v->guest);
		return HC_GONE;
	}
	if (s != ERR_NOMEM && s != ERR_LIMIT && s != ERR_BUSY)
		return -AERO_EFAULT;
	v->call_gpa = GPA(gpa);
	v->call_bytes = bytes;
	v->call_access = access;
	return HC_AGAIN;
}

static int64_t hc_console_write(struct vcpu *v, uint64_t gpa, uint64_t bytes, uint64_t c)
{
	struct guest *g = v->guest;
	char chunk[CONSOLE_CHUNK];
	uint64_t done = 0;

	(void)c;
	while (done < bytes) {
		size_t n = (size_t)MIN(bytes - done, (uint64_t)sizeof(chunk));
		status_t s = p2m_copy_from(&g->p2m, GPA(gpa + done), chunk, n);

		if (s != OK)
			return done ? (int64_t)done : copy_error(v, s, gpa, n, P2M_READ);
		spin_lock(&g->lock);
		gconsole_put(&g->console, chunk, n);
		spin_unlock(&g->lock);
		done += n;
	}
	return (int64_t)done;
}

static int64_t hc_console_read(struct vcpu *v, uint64_t gpa, uint64_t bytes, uint64_t c)
{
	struct guest *g = v->guest;
	char chunk[CONSOLE_CHUNK];

	(void)c;
	spin_lock(&g->lock);
	uint32_t tail = g->console.in_tail;
	size_t n = gconsole_read(&g->console, chunk, (size_t)MIN(bytes, sizeof(chunk)));
	status_t s = p2m_copy_to(&g->p2m, GPA(gpa), chunk, n);

	if (s != OK)
		g->console.in_tail = tail; /* not delivered: still there for the next try */
	spin_unlock(&g->lock);
	return s == OK ? (int64_t)n : copy_error(v, s, gpa, n, P2M_WRITE);
}

static int64_t hc_block_info(struct vcpu *v, uint64_t gpa, uint64_t b, uint64_t c)
{
	struct aero_block_info info = {
		.sector_count = v->guest->disk.sector_count,
		.sector_bytes = AERO_SECTOR_BYTES,
		.request_max = HC_BLOCK_SECTORS_MAX,
	};
	status_t s = p2m_copy_to(&v->guest->p2m, GPA(gpa), &info, sizeof(info));

	(void)b, (void)c;
	return s == OK ? 0 : copy_error(v, s, gpa, sizeof(info), P2M_WRITE);
}

/*
 * Calls whose results go back to where their arguments were. Those pages are kept meanwhile: the call cannot be
 * made again because a result has no place.
 */
static int64_t with_results(struct vcpu *v, uint64_t gpa, void *copy, uint64_t bytes,
	int64_t (*call)(struct vcpu *v, void *copy, uint64_t count, uint64_t what), uint64_t count,
	uint64_t what)
{
	struct p2m *p = &v->guest->p2m;
	uint32_t who = (uint32_t)(v - v->guest->vcpu);

	_Static_assert(CONFIG_VCPU_MAX <= P2M_KEEPERS, "each vCPU keeps what its call needs");
	if (!count)
		return call(v, copy, 0, what);
	status_t s = p2m_keep(p, who, GPA(gpa), bytes);

	if (s != OK)
		return copy_error(v, s, gpa, bytes, P2M_WRITE);
	s = p2m_copy_from(p, GPA(gpa), copy, bytes);
	int64_t result = s == OK ? call(v, copy, count, what) : -AERO_EFAULT;

	/* In vain only if the guest took the page away itself, which makes no difference to others. */
	if (result > 0 && p2m_copy_to(p, GPA(gpa), copy, bytes / count * (uint64_t)result) != OK)
		result = -AERO_EFAULT;
	p2m_keep_end(p, who);
	return result;
}

/* It stands still for what it reads. A call is taken to be like its first request. */
static void count_disk_time(struct vcpu *v, uint64_t tsc)
{
	v->disk_tsc += tsc;
	if (v->disk_reads)
		v->stalled_tsc += tsc;
}

static int64_t block_requests(struct vcpu *v, void *copy, uint64_t count, uint64_t what)
{
	struct aero_block_req *req = copy;
	uint64_t sectors = 0, tried = 0;
	struct block_wait wait = { .bytes = 0 };

	(void)what;
	v->disk_reads = count && req[0].op == AERO_BLOCK_READ;
	if (!disk_claim(v))
		return HC_DISK;
	uint64_t start = platform_tsc(), until = start + platform_ms_to_tsc(BLOCK_CALL_MS);

	for (; tried < count && sectors < BLOCK_CALL_SECTORS; tried++) {
		if (tried && platform_tsc() >= until)
			break;
		req[tried].status = (int16_t)block_request(v, &req[tried], &wait);
		if (wait.bytes)
			break;
		sectors += MIN(req[tried].sectors, HC_BLOCK_SECTORS_MAX);
	}
	disk_release();
	count_disk_time(v, platform_tsc() - start);
	if (wait.bytes && tried == 0) {
		/* What is written goes out from where it lies: its page stays in swap. */
		v->call_gpa = wait.gpa;
		if (wait.status == ERR_BUSY)
			return HC_SWAP;
		return copy_error(v, wait.status, wait.gpa.v, wait.bytes,
			req[0].op == AERO_BLOCK_WRITE ? P2M_READ : P2M_WRITE);
	}
	v->block_done = 0; /* the guest makes the rest again when it likes: from the start */
	return (int64_t)tried;
}

static int64_t hc_block_io(struct vcpu *v, uint64_t gpa, uint64_t count, uint64_t c)
{
	struct aero_block_req req[64];

	(void)c;
	return with_results(v, gpa, req, count * sizeof(req[0]), block_requests, count, 0);
}

static int64_t hc_event_setup(struct vcpu *v, uint64_t vector, uint64_t b, uint64_t c)
{
	struct guest *g = v->guest;

	(void)b, (void)c;
	if (vector != 0 && vector < 32)
		return -AERO_EINVAL;
	/* Exchanged, for the fence: guest_event() adds its bits and looks for the vector, this does it the
	 * other way round. */
	(void)__atomic_exchange_n(&g->event_vector, (uint8_t)vector, __ATOMIC_SEQ_CST);
	if (vector && __atomic_load_n(&g->event_pending, __ATOMIC_ACQUIRE))
		guest_event(g, 0); /* the first vCPU's, whoever asks */
	return 0;
}

static int64_t hc_balloon_setup(struct vcpu *v, uint64_t gpa, uint64_t flags, uint64_t c)
{
	(void)c;
	/* It will be pinned: brought in first, if it is out. */
	if (gpa && gpa_to_gfn(GPA(gpa)).v < v->guest->p2m.gfn_count) {
		enum p2m_fault_result r = p2m_fault(&v->guest->p2m, GPA(gpa), P2M_WRITE);

		if (r != P2M_FAULT_MAPPED)
			return copy_error(v, r == P2M_FAULT_LOST ? ERR_IO : ERR_NOMEM, gpa, 1, P2M_WRITE);
	}
	int64_t result = balloon_hc_setup(&v->guest->balloon, GPA(gpa), flags, platform_ns());

	/* A guest that is refused might go on without a balloon for good, for a table that was missing now. */
	return result == -AERO_ENOMEM ? copy_error(v, ERR_NOMEM, gpa, 1, P2M_WRITE) : result;
}

#define WHAT_INFLATE (1ull << 32) /* beside the call's flags */

static int64_t balloon_ranges(struct vcpu *v, void *copy, uint64_t count, uint64_t what)
{
	struct guest *g = v->guest;
	uint64_t held = g->p2m.account.used_pages, start = platform_tsc();
	int64_t tried = balloon_hc_ranges(&g->balloon, what & WHAT_INFLATE, copy, (uint32_t)count,
		what & ~WHAT_INFLATE, platform_ns());

	if (what & WHAT_INFLATE)
		__atomic_fetch_add(&g->balloon.inflate_ticks, platform_tsc() - start, __ATOMIC_RELAXED);
	if (tried >= 0 && g->grace_pages && g->p2m.account.used_pages < held)
		memwait_repay(g, held - g->p2m.account.used_pages);
	return tried;
}

static int64_t hc_balloon_inflate(struct vcpu *v, uint64_t gpa, uint64_t count, uint64_t flags)
{
	return with_results(v, gpa, v->ranges, count * sizeof(struct aero_range), balloon_ranges, count,
		flags | WHAT_INFLATE);
}

static int64_t hc_balloon_deflate(struct vcpu *v, uint64_t gpa, uint64_t count, uint64_t flags)
{
	return with_results(v, gpa, v->ranges, count * sizeof(struct aero_range), balloon_ranges, count,
		flags);
}

static int64_t hc_balloon_report(struct vcpu *v, uint64_t state, uint64_t reason, uint64_t pages)
{
	return balloon_hc_report(&v->guest->balloon, state, reason, pages, platform_ns());
}

static int64_t hc_stats_report(struct vcpu *v, uint64_t request, uint64_t b, uint64_t c)
{
	(void)b, (void)c;
	return balloon_hc_stats(&v->guest->balloon, request, platform_ns());
}

static int64_t hc_pressure(struct vcpu *v, uint64_t level, uint64_t pages, uint64_t c)
{
	(void)c;
	if (pages)
		overcommit_kick(v->guest);
	return balloon_hc_pressure(&v->guest->balloon, level, pages, platform_ns());
}

static int64_t hc_shutdown(struct vcpu *v, uint64_t how, uint64_t code, uint64_t c)
{
	struct guest *g = v->guest;

	(void)c;
	if (how == AERO_SHUTDOWN_CRASH) {
		guest_crash(g, "it stopped itself with code %llu", (unsigned long long)code);
	} else {
		bool reboot = how == AERO_SHUTDOWN_REBOOT;

		guest_shutdown(g, reboot ? "reboot" : "powered off", reboot);
	}
	/* Paused from another CPU just now, it asks again when it goes on. */
	if (__atomic_load_n(&g->state, __ATOMIC_RELAXED) == GUEST_PAUSED)
		virt_hypercall_again(v->virt);
	return HC_GONE;
}

static struct p2m *nth_p2m(void *ctx, uint32_t i)
{
	struct guest *g = guest_next(NULL);

	(void)ctx;
	while (g && i--)
		g = guest_next(g);
	return g ? &g->p2m : NULL;
}

static int64_t debug_audit(void)
{
	struct audit_report report;

	sched_park_others();
	audit_run(nth_p2m, NULL, false, &report);
	sched_unpark();
	for (uint32_t i = 0; i < MIN(report.problems, (uint64_t)AUDIT_MESSAGE_MAX); i++)
		log_err("audit: %s", report.message[i]);
	return (int64_t)report.problems;
}

static int64_t hc_debug(struct vcpu *v, uint64_t what, uint64_t arg, uint64_t c)
{
	struct guest *g = v->guest;

	(void)c;
	if (!g->config.debug)
		return -AERO_EPERM;
	switch ((enum aero_debug)what) {
	case AERO_DEBUG_AUDIT:
		return debug_audit();
	case AERO_DEBUG_SCRUB:
		return (int64_t)frame_scrub(MIN(arg, (uint64_t)SCRUB_MAX));
	case AERO_DEBUG_FREE:
		return (int64_t)frame_pool_free();
	case AERO_DEBUG_GUEST_PAGES:
		return (int64_t)g->p2m.account.used_pages;
	}
	return -AERO_EINVAL;
}

/* Calls whose arguments are checked first. */
static const hc_fn checked[AERO_HC_COUNT] = {
	[AERO_HC_CONSOLE_WRITE] = hc_console_write,
	[AERO_HC_CONSOLE_READ] = hc_console_read,
	[AERO_HC_BLOCK_INFO] = hc_block_info,
	[AERO_HC_BLOCK_IO] = hc_block_io,
	[AERO_HC_EVENT_SETUP] = hc_event_setup,
	[AERO_HC_BALLOON_SETUP] = hc_balloon_setup,
	[AERO_HC_BALLOON_INFLATE] = hc_balloon_inflate,
	[AERO_HC_BALLOON_DEFLATE] = hc_balloon_deflate,
	[AERO_HC_BALLOON_REPORT] = hc_balloon_report,
	[AERO_HC_STATS_REPORT] = hc_stats_report,
	[AERO_HC_PRESSURE] = hc_pressure,
	[AERO_HC_SHUTDOWN] = hc_shutdown,
	[AERO_HC_DEBUG] = hc_debug,
};

static enum exit_action finish(struct vcpu *v, int64_t result)
{
	if (result == HC_GONE)
		return EXIT_YIELD;
	if (result == HC_AGAIN)
		return memwait_hypercall(v, v->call_gpa, v->call_bytes, v->call_access);
	if (result == HC_SWAP) {
		virt_hypercall_again(v->virt);
		return memwait_disk(v, v->call_gpa, 0);
	}
	if (result == HC_DISK) {
		virt_hypercall_again(v->virt);
		return EXIT_DISK;
	}
	v->hypercall_errors += result < 0;
	v->virt->gpr[VIRT_RAX] = (uint64_t)result;
	return EXIT_RESUME;
}

static enum exit_action call_checked(struct vcpu *v)
{
	const uint64_t *gpr = v->virt->gpr;
	const uint64_t arg[HC_ARGS] = { gpr[VIRT_RDI], gpr[VIRT_RSI], gpr[VIRT_RDX] };
	uint64_t number = gpr[VIRT_RAX];
	int64_t error = hc_check(number, arg, v->guest->p2m.gfn_count * PAGE_BYTES);

	return finish(v, error ? error : checked[number](v, arg[0], arg[1], arg[2]));
}

/* Calls with nothing to check are entries of their own: the null call's whole path is the gauge. */
static enum exit_action call_null(struct vcpu *v)
{
	v->virt->gpr[VIRT_RAX] = 0;
	return EXIT_RESUME;
}

static enum exit_action call_event_take(struct vcpu *v)
{
	v->virt->gpr[VIRT_RAX] = __atomic_exchange_n(&v->guest->event_pending, 0, __ATOMIC_ACQ_REL);
	return EXIT_RESUME;
}

static enum exit_action call_yield(struct vcpu *v)
{
	uint64_t peer = v->virt->gpr[VIRT_RDI];

	if (peer != SCHED_ANY_PEER && peer >= v->guest->vcpu_count)
		return finish(v, -AERO_EINVAL);
	v->virt->gpr[VIRT_RAX] = 0;
	return sched_spins(v, peer);
}

static const exit_fn entry[AERO_HC_COUNT] = {
	[AERO_HC_NULL] = call_null,
	[AERO_HC_CONSOLE_WRITE] = call_checked,
	[AERO_HC_CONSOLE_READ] = call_checked,
	[AERO_HC_BLOCK_INFO] = call_checked,
	[AERO_HC_BLOCK_IO] = call_checked,
	[AERO_HC_EVENT_SETUP] = call_checked,
	[AERO_HC_EVENT_TAKE] = call_event_take,
	[AERO_HC_BALLOON_SETUP] = call_checked,
	[AERO_HC_BALLOON_INFLATE] = call_checked,
	[AERO_HC_BALLOON_DEFLATE] = call_checked,
	[AERO_HC_BALLOON_REPORT] = call_checked,
	[AERO_HC_STATS_REPORT] = call_checked,
	[AERO_HC_PRESSURE] = call_checked,
	[AERO_HC_SHUTDOWN] = call_checked,
	[AERO_HC_DEBUG] = call_checked,
	[AERO_HC_YIELD] = call_yield,
};
_Static_assert(AERO_HC_COUNT <= ARRAY_COUNT(((struct vcpu *)0)->hypercalls), "a counter a call");

enum exit_action hypercall_exit(struct vcpu *v)
{
	uint64_t number = v->virt->gpr[VIRT_RAX];

	if (UNLIKELY(number >= AERO_HC_COUNT))
		return finish(v, -AERO_ENOSYS);
	v->hypercalls[number]++;
	return entry[number](v);
}
