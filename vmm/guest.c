#include "vmm/guest.h"

#include <stdarg.h>

#include "mm/alias.h"
#include "mm/heap.h"
#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/block.h"
#include "vmm/guest_build.h"
#include "vmm/platform.h"
#include "vmm/sched.h"
#include "vmm/sharing.h"

/*
 * A guest that has lived for less waits before it is started again: one that does nothing but reboot keeps
 * neither CPU 0 from the others nor the operator from his console.
 */
#define REBOOT_NS 1000000000ull

struct config hv_config;

/* Guests by rising id. Changed between vCPUs only, on CPU 0. */
static struct {
	struct spinlock lock;
	struct list list;
	uint32_t count;
	uint16_t last_id;
	bool reboot_wanted; /* some guest has `reboot` set; atomic */
} guests = { .lock = SPINLOCK_INIT(LOCK_RANK_GUESTS), .list = { &guests.list, &guests.list } };

static struct guest *from_link(struct list *l)
{
	return list_entry(l, struct guest, link);
}

uint32_t guest_count(void)
{
	return guests.count;
}

struct guest *guest_next(struct guest *g)
{
	struct list *l = g ? g->link.next : guests.list.next;

	return l == &guests.list ? NULL : from_link(l);
}

static struct guest *find_id(uint64_t id)
{
	list_for_each(it, &guests.list) {
		if (from_link(it)->id == id)
			return from_link(it);
	}
	return NULL;
}

static struct guest *find_name(const char *name)
{
	list_for_each(it, &guests.list) {
		if (strcmp(from_link(it)->config.name, name) == 0)
			return from_link(it);
	}
	return NULL;
}

struct guest *guest_find(const char *name)
{
	uint64_t id;
	struct guest *g = find_name(name);

	if (!g && parse_u64(name, UINT16_MAX, &id) == OK)
		g = find_id(id);
	return g;
}

/* Ids rise, so that a guest made anew is told from the one before; they start over at the end. */
static uint16_t new_id(void)
{
	do {
		guests.last_id = (uint16_t)(guests.last_id >= FRAME_OWNER_SHARED - 1 ? 1 :
							guests.last_id + 1);
	} while (find_id(guests.last_id));
	return guests.last_id;
}

static void list_add_sorted(struct guest *g)
{
	struct list *at = guests.list.prev;

	spin_lock(&guests.lock);
	while (at != &guests.list && from_link(at)->id > g->id)
		at = at->prev;
	list_insert(at, &g->link);
	guests.count++;
	spin_unlock(&guests.lock);
}

static void list_take(struct guest *g)
{
	spin_lock(&guests.lock);
	list_remove(&g->link);
	guests.count--;
	spin_unlock(&guests.lock);
}

static void notify(void *ctx, uint32_t events)
{
	guest_event(ctx, events);
}

/* Of the CPUs that run. */
static uint64_t cpu_mask(void)
{
	return UINT64_MAX >> (64 - platform_cpu_count());
}

/* Refusals that need nothing but the config. */
static status_t check_new(const struct config_guest *c, char error[CONFIG_ERROR_BYTES])
{
	if (find_name(c->name)) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s exists already", c->name);
		return ERR_EXIST;
	}
	if (!(c->cpus & cpu_mask())) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: none of its cpus runs here: there "
			"%s 0 to %u", c->name, platform_cpu_count() == 1 ? "is" : "are",
			platform_cpu_count() - 1);
		return ERR_INVAL;
	}
	if (c->vcpus > 1 && !virt_caps.real_mode) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: %u vcpus need a processor whose guests "
			"can start in real mode, which this one's cannot; write vcpus = <1>", c->name,
			c->vcpus);
		return ERR_NOSYS;
	}
	if (guests.count == GUEST_MAX) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: there are %u guests, which is the "
			"most this hypervisor holds", c->name, GUEST_MAX);
		return ERR_LIMIT;
	}
	return OK;
}

/* A guest's share of the CPUs, divided among its vCPUs. */
static uint32_t vcpu_weight(const struct config_guest *c)
{
	return MAX(c->cpu_shares / c->vcpus, 1u);
}

void guest_set_max(struct guest *g, uint64_t bytes)
{
	uint64_t pages = bytes / PAGE_BYTES;

	g->config.max_bytes = bytes;
	frame_account_set_max(&g->p2m.account, pages + p2m_tables_for(g->p2m.gfn_count));
}

void guest_set_cpu_shares(struct guest *g, uint32_t shares)
{
	g->config.cpu_shares = shares;
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		sched_set(&g->vcpu[i], vcpu_weight(&g->config), g->vcpu[i].fair.cpus);
}

static status_t make_memory(struct guest *g, char error[CONFIG_ERROR_BYTES])
{
	const struct config_guest *c = &g->config;
	char min[16], room[16], pool[16];
	struct frame_counts n;
	uint64_t room_pages = 0;
	status_t s = p2m_create(&g->p2m, g->id, c->memory_bytes / PAGE_BYTES,
		c->min_bytes / PAGE_BYTES, &room_pages);

	if (s == OK) {
		g->p2m.populate_2m = c->huge;
		sharing_guest_came(g);
		guest_set_max(g, c->max_bytes);
		return OK;
	}
	frame_counts(&n);
	if (s == ERR_LIMIT)
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: its min of %s cannot be "
			"guaranteed: the pool of %s has %s left to promise", c->name,
			format_size(min, sizeof(min), c->min_bytes),
			format_size(pool, sizeof(pool), n.pool_limit * PAGE_BYTES),
			format_size(room, sizeof(room), room_pages * PAGE_BYTES));
	else
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: no memory for its tables now: %s "
			"of the pool are free", c->name,
			format_size(room, sizeof(room), n.pool_free * PAGE_BYTES));
	return s;
}

/* Virtual CPUs and kernel image. Undone by free_contents(). */
static status_t make_vcpus(struct guest *g, char error[CONFIG_ERROR_BYTES])
{
	struct virt_boot boot;
	status_t s = OK;

	for (uint32_t i = 0; i < g->vcpu_count && s == OK; i++) {
		struct vcpu *v = &g->vcpu[i];

		s = virt_vcpu_create(g->id, i, g->vcpu_count, &g->p2m.slat, &v->virt);
		if (s != OK)
			break;
		v->virt->owner = v;
		v->virt->peers = g->peers;
		v->virt->peer_count = g->vcpu_count;
		g->peers[i] = v->virt;
	}
	if (s != OK) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: no memory for its CPUs (%s)",
			g->config.name, status_text(s));
		return s;
	}
	s = guest_build(g, &boot, error);
	if (s != OK)
		return s;
	virt_boot(g->vcpu[0].virt, &boot);
	/* The first starts the others, which sleep until then. */
	for (uint32_t i = 1; i < g->vcpu_count; i++) {
		virt_park(g->vcpu[i].virt);
		g->vcpu[i].halted = true;
	}
	return OK;
}

#define RANGES_BYTES (AERO_RANGE_MAX * sizeof(struct aero_range))

static void free_guest(struct guest *g)
{
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		heap_free(g->vcpu[i].ranges, RANGES_BYTES);
	heap_free(g, sizeof(*g));
}

static struct guest *alloc_guest(const struct config_guest *config)
{
	struct guest *g = heap_alloc(sizeof(*g));

	if (!g)
		return NULL;
	g->config = *config;
	g->vcpu_count = config->vcpus;
	for (uint32_t i = 0; i < g->vcpu_count; i++) {
		g->vcpu[i].ranges = heap_alloc(RANGES_BYTES);
		if (!g->vcpu[i].ranges) {
			free_guest(g);
			return NULL;
		}
	}
	g->id = new_id();
	g->created_ns = platform_ns();
	g->ladder.limit_pages = UINT64_MAX;
	g->ladder.reclaim.seed = platform_tsc() | 1;
	spinlock_init(&g->lock, LOCK_RANK_GUEST);
	list_init(&g->link);
	gconsole_init(&g->console);
	for (uint32_t i = 0; i < g->vcpu_count; i++) {
		g->vcpu[i].guest = g;
		sched_vcpu_init(&g->vcpu[i], vcpu_weight(config), config->cpus);
	}
	return g;
}

/* Everything behind p2m_create(), in reverse. vCPUs are STOPPED. */
static void free_contents(struct guest *g)
{
	for (uint32_t i = 0; i < g->vcpu_count; i++) {
		if (g->vcpu[i].virt)
			virt_vcpu_destroy(g->vcpu[i].virt);
		g->vcpu[i].virt = NULL; /* the balloon's end may still raise an event */
	}
	balloon_fini(&g->balloon);
	p2m_destroy(&g->p2m);
	sharing_guest_gone(g->id);
	block_close(&g->disk);
}

static status_t make_guest(struct guest *g, char error[CONFIG_ERROR_BYTES])
{
	status_t s = block_open(&g->config, &g->disk, error);

	if (s != OK)
		return s;
	s = make_memory(g, error);
	if (s != OK)
		return s;
	balloon_init(&g->balloon, &g->p2m, notify, g);
	s = make_vcpus(g, error);
	if (s != OK)
		free_contents(g);
	return s;
}

status_t guest_create(const struct config_guest *config, struct guest **out,
	char error[CONFIG_ERROR_BYTES])
{
	status_t s = check_new(config, error);

	if (s != OK)
		return s;
	struct guest *g = alloc_guest(config);

	if (!g) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: the hypervisor's heap is full",
			config->name);
		return ERR_NOMEM;
	}
	s = make_guest(g, error);
	if (s != OK) {
		free_guest(g);
		return s;
	}
	g->state = GUEST_RUNNING;
	sampling_open(g);
	list_add_sorted(g);
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		sched_add(&g->vcpu[i]);
	if (out)
		*out = g;
	return OK;
}

static void stop_vcpus(struct guest *g)
{
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		sched_stop(&g->vcpu[i]);
}

/* And until no CPU has anything of them. Control plane only, no lock held. */
static void wait_stopped(struct guest *g)
{
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		sched_stop_wait(&g->vcpu[i]);
}

void guest_destroy(struct guest *g)
{
	stop_vcpus(g);
	wait_stopped(g);
	spin_lock(&g->lock);
	g->state = GUEST_DYING;
	spin_unlock(&g->lock);
	list_take(g);
	free_contents(g);
	free_guest(g);
}

/* RUNNING to one of the states in which no vCPU runs. False if it is not RUNNING. */
static bool leave_running(struct guest *g, enum guest_state to)
{
	spin_lock(&g->lock);
	bool was = g->state == GUEST_RUNNING;

	if (was)
		g->state = to;
	spin_unlock(&g->lock);
	if (was)
		stop_vcpus(g);
	return was;
}

status_t guest_pause(struct guest *g)
{
	if (!leave_running(g, GUEST_PAUSED))
		return ERR_BUSY;
	wait_stopped(g);
	return OK;
}

status_t guest_unpause(struct guest *g)
{
	spin_lock(&g->lock);
	bool was = g->state == GUEST_PAUSED;

	if (was)
		g->state = GUEST_RUNNING;
	spin_unlock(&g->lock);
	if (!was)
		return ERR_BUSY;
	for (uint32_t i = 0; i < g->vcpu_count; i++)
		sched_add(&g->vcpu[i]);
	return OK;
}

void guest_crash(struct guest *g, const char *fmt, ...)
{
	va_list ap;

	if (!leave_running(g, GUEST_CRASHED))
		return;
	va_start(ap, fmt);
	fmt_vsnprintf(g->reason, sizeof(g->reason), fmt, ap);
	va_end(ap);
	log_err("guest %s crashed: %s", g->config.name, g->reason);
}

void guest_shutdown(struct guest *g, const char *reason, bool reboot)
{
	if (!leave_running(g, GUEST_SHUTDOWN))
		return;
	/* Only from whoever ended it: another of its vCPUs may ask for the opposite. */
	g->reboot = reboot;
	str_copy(g->reason, sizeof(g->reason), reason);
	log_info("guest %s is down: %s", g->config.name, reason);
	if (reboot)
		__atomic_store_n(&guests.reboot_wanted, true, __ATOMIC_RELEASE);
}

void guest_page_lost(struct guest *g)
{
	const struct p2m *p = &g->p2m;
	unsigned long long at = (unsigned long long)p->lost_gfn.v << PAGE_SHIFT;

	if (p->lost_why && p->lost_from == P2M_SWAPPED && alias_is(p->lost_slot)) {
		uint64_t sector = (p->lost_slot - ALIAS_SLOT) * (PAGE_BYTES / AERO_SECTOR_BYTES);

		guest_crash(g, "its page at 0x%llx is lost: sector %llu of its disk (%llu of disk %u) %s", at,
			(unsigned long long)(sector - g->disk.first_sector), (unsigned long long)sector,
			g->disk.disk, p->lost_why);
		return;
	}
	guest_crash(g, "its page at 0x%llx is lost: swap slot %llu, %s", at,
		(unsigned long long)p->lost_slot, p->lost_why ? p->lost_why : "it cannot be had");
}

static void restart(struct guest *g)
{
	struct config_guest config = g->config;
	char error[CONFIG_ERROR_BYTES];

	guest_destroy(g);
	if (guest_create(&config, NULL, error) != OK)
		log_err("cannot start %s again: %s", config.name, error);
}

void guest_poll(void)
{
	if (LIKELY(!__atomic_load_n(&guests.reboot_wanted, __ATOMIC_ACQUIRE)))
		return;
	uint64_t now = platform_ns();
	bool later = false;

	__atomic_store_n(&guests.reboot_wanted, false, __ATOMIC_SEQ_CST);
	list_for_each_safe(it, next, &guests.list) {
		struct guest *g = from_link(it);

		if (!__atomic_load_n(&g->reboot, __ATOMIC_ACQUIRE))
			continue;
		if (now - g->created_ns >= REBOOT_NS)
			restart(g);
		else
			later = true;
	}
	if (later)
		__atomic_store_n(&guests.reboot_wanted, true, __ATOMIC_RELEASE);
}

/* Called under any lock up to LOCK_RANK_BALLOON, hence atomics instead of the guest's lock. */
void guest_event(struct guest *g, uint32_t events)
{
	__atomic_fetch_or(&g->event_pending, events, __ATOMIC_ACQ_REL);
	uint8_t vector = __atomic_load_n(&g->event_vector, __ATOMIC_ACQUIRE);

	if (vector && g->vcpu[0].virt) {
		virt_raise(g->vcpu[0].virt, vector);
		sched_wake(&g->vcpu[0]);
	}
}

size_t guest_console_input(struct guest *g, const char *s, size_t n)
{
	spin_lock(&g->lock);
	size_t taken = gconsole_input(&g->console, s, n);

	spin_unlock(&g->lock);
	if (taken)
		guest_event(g, AERO_EVENT_CONSOLE);
	return taken;
}

void guest_log(struct guest *g, enum log_level level, const char *fmt, ...)
{
	struct guest_log_budget *b = &g->log;
	uint64_t second = platform_ns() >> 30; /* about: no division in a path that guests drive */
	uint64_t last = __atomic_load_n(&b->second, __ATOMIC_RELAXED);
	char line[160];
	va_list ap;

	/* One of the vCPUs that find a new second begins it. */
	if (last != second && __atomic_compare_exchange_n(&b->second, &last, second, false,
				      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		uint32_t dropped = __atomic_exchange_n(&b->dropped, 0, __ATOMIC_RELAXED);

		__atomic_store_n(&b->lines, 0, __ATOMIC_RELAXED);
		if (dropped)
			log_printf(level, "%s: %u messages dropped", g->config.name, dropped);
	}
	if (__atomic_fetch_add(&b->lines, 1, __ATOMIC_RELAXED) >= GUEST_LOG_LINES) {
		__atomic_fetch_add(&b->dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	va_start(ap, fmt);
	fmt_vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_printf(level, "%s: %s", g->config.name, line);
}

const char *guest_state_name(enum guest_state s)
{
	static const char *const names[] = { "running", "paused", "shutdown", "crashed", "dying" };

	return (uint32_t)s < ARRAY_COUNT(names) ? names[s] : "?";
}

/* It runs if any of its vCPUs does. */
static bool is_blocked(const struct guest *g)
{
	for (uint32_t i = 0; i < g->vcpu_count; i++) {
		enum vcpu_state v = vcpu_state(&g->vcpu[i]);

		if (v != VCPU_HALTED && v != VCPU_WAIT_MEMORY && v != VCPU_WAIT_DISK)
			return false;
	}
	return true;
}

void guest_state_letters(const struct guest *g, char out[7])
{
	bool blocked = is_blocked(g);

	memcpy(out, "------", 7);
	switch (g->state) {
	case GUEST_RUNNING:
		out[blocked] = blocked ? 'b' : 'r';
		break;
	case GUEST_PAUSED:
		out[2] = 'p';
		break;
	case GUEST_SHUTDOWN:
		out[3] = 's';
		break;
	case GUEST_CRASHED:
		out[4] = 'c';
		break;
	case GUEST_DYING:
		out[5] = 'd';
		break;
	}
}
