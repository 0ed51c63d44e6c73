/* Pure (but for libfdt). */
#include "vmm/config.h"

#include <libfdt.h>

#include "vmm/base/nearest.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/config_value.h"
#include "vmm/platform.h"
#include "vmm/virt.h"

#define COMPATIBLE  "aerostat,config-1"
#define MEMORY_MIN  MIB(4)
#define MEMORY_MAX  GIB(64)
#define SHARES_MAX  100000u
#define COUNT_MAX   CONFIG_GUEST_MAX
#define RESERVE_DEFAULT MIB(1)
#define DEADLINE_MS     2000u
#define DEADLINE_MS_MAX 3600000u
#define TAX_PERCENT     0u /* none: docs/caveats.md, "Working sets" */
#define TAX_PERCENT_MAX 99u

static status_t take_kernel(struct config_parser *p, int node, const char *name, void *to)
{
	return config_take_string(p, node, name, to, CONFIG_KERNEL_BYTES);
}

static status_t take_cmdline(struct config_parser *p, int node, const char *name, void *to)
{
	return config_take_string(p, node, name, to, CONFIG_CMDLINE_BYTES);
}

static bool name_is_good(const char *name);

static status_t take_share(struct config_parser *p, int node, const char *name, void *to)
{
	const char *text = config_take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	if (!name_is_good(text) || !str_copy(to, CONFIG_SHARE_BYTES, text))
		return config_complain(p, node, name,
			"should be \"none\", \"own\" or a group's name: letters, digits, - and _, at most %u",
			CONFIG_SHARE_BYTES - 1);
	return OK;
}

/* One of three words, as its number. */
static status_t take_word(struct config_parser *p, int node, const char *name, const char *const known[3], void *to)
{
	const char *text = config_take_text(p, node, name);
	uint32_t i = 0;

	if (!text)
		return ERR_FORMAT;
	while (i < 3 && strcmp(known[i], text))
		i++;
	if (i == 3)
		return config_complain(p, node, name, "is \"%.24s\"; should be \"%s\", \"%s\" or \"%s\"", text,
			known[0], known[1], known[2]);
	*(uint32_t *)to = i;
	return OK;
}

static status_t take_sampling(struct config_parser *p, int node, const char *name, void *to)
{
	static const char *const known[3] = { [CONFIG_SAMPLING_ACCESSED] = "accessed",
		[CONFIG_SAMPLING_INVALIDATE] = "invalidate", [CONFIG_SAMPLING_OFF] = "off" };

	return take_word(p, node, name, known, to);
}

static status_t take_mitigations(struct config_parser *p, int node, const char *name, void *to)
{
	static const char *const known[3] = { [VIRT_MITIGATIONS_AUTO] = "auto", [VIRT_MITIGATIONS_OFF] = "off",
		[VIRT_MITIGATIONS_FORCE] = "force" };

	return take_word(p, node, name, known, to);
}

static status_t take_disk_fault(struct config_parser *p, int node, const char *name, void *to)
{
	const char *text = config_take_text(p, node, name);
	char error[DISK_FAULT_ERROR_BYTES];

	if (!text)
		return ERR_FORMAT;
	return disk_fault_parse_line(text, to, error) == OK ? OK : config_complain(p, node, name, "%s", error);
}

static status_t check_compatible(struct config_parser *p, int node, const char *name, void *to)
{
	(void)to;
	const char *text = config_take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	if (strcmp(text, COMPATIBLE))
		return config_complain(p, node, name, "is \"%.40s\"; this version reads \"%s\"", text, COMPATIBLE);
	return OK;
}

/* ---- nodes ------------------------------------------------------------------------------------- */

struct guest_node {
	struct config_guest guest;
	uint32_t count;
};

#define GUEST(field) offsetof(struct guest_node, guest.field)

static const struct config_property guest_properties[] = {
	{ "count", config_take_u32, offsetof(struct guest_node, count) },
	{ "memory", config_take_size, GUEST(memory_bytes) },
	{ "min", config_take_size, GUEST(min_bytes) },
	{ "max", config_take_size, GUEST(max_bytes) },
	{ "shares", config_take_u32, GUEST(shares) },
	{ "vcpus", config_take_u32, GUEST(vcpus) },
	{ "cpu-shares", config_take_u32, GUEST(cpu_shares) },
	{ "cpus", config_take_cpus, GUEST(cpus) },
	{ "kernel", take_kernel, GUEST(kernel) },
	{ "disk", config_take_size, GUEST(disk_bytes) },
	{ "cmdline", take_cmdline, GUEST(cmdline) },
	{ "noauto", config_take_flag_off, GUEST(autostart) },
	{ "debug", config_take_flag, GUEST(debug) },
	{ "huge", config_take_flag, GUEST(huge) },
	{ "share", take_share, GUEST(share) },
	{ "deadline", config_take_u32, GUEST(deadline_ms) },
	{ "dynamic", config_take_flag, GUEST(dynamic) },
};
static const struct config_table guest_table = { "a guest's node", guest_properties,
	ARRAY_COUNT(guest_properties) };
static const struct config_table guests_table = { "guests", NULL, 0 };

static status_t check_guest(struct config_parser *p, int node, const struct config_guest *g)
{
	char a[16], b[16];

	if (!g->memory_bytes)
		return config_complain(p, node, "memory", "is missing; write memory = \"16M\"");
	if (g->memory_bytes < MEMORY_MIN || g->memory_bytes > MEMORY_MAX || g->memory_bytes % MIB(2))
		return config_complain(p, node, "memory", "is %s; should be 4M to 64G, a multiple of 2M",
			format_size(a, sizeof(a), g->memory_bytes));
	if (!g->dynamic && g->max_bytes > g->memory_bytes)
		return config_complain(p, node, "max", "is %s, more than memory, %s: only a dynamic guest grows; "
			"write dynamic;", format_size(a, sizeof(a), g->max_bytes),
			format_size(b, sizeof(b), g->memory_bytes));
	if (g->dynamic && (g->max_bytes < g->memory_bytes || g->max_bytes > MEMORY_MAX ||
				  g->max_bytes % MIB(2)))
		return config_complain(p, node, "max", "is %s; a dynamic guest's is its memory, %s, to 64G, a "
			"multiple of 2M", format_size(a, sizeof(a), g->max_bytes),
			format_size(b, sizeof(b), g->memory_bytes));
	if (g->dynamic && g->min_bytes > g->memory_bytes)
		return config_complain(p, node, "min", "is %s, more than memory, %s, with which it starts",
			format_size(a, sizeof(a), g->min_bytes),
			format_size(b, sizeof(b), g->memory_bytes));
	if (g->min_bytes > g->max_bytes)
		return config_complain(p, node, "min", "is %s, more than max, %s",
			format_size(a, sizeof(a), g->min_bytes), format_size(b, sizeof(b), g->max_bytes));
	if (g->shares < 1 || g->shares > SHARES_MAX)
		return config_complain(p, node, "shares", "is %u; should be 1 to %u", g->shares, SHARES_MAX);
	if (g->vcpus < 1 || g->vcpus > CONFIG_VCPU_MAX)
		return config_complain(p, node, "vcpus", "is %u; should be 1 to %u", g->vcpus, CONFIG_VCPU_MAX);
	if (g->cpu_shares < 1 || g->cpu_shares > SHARES_MAX)
		return config_complain(p, node, "cpu-shares", "is %u; should be 1 to %u", g->cpu_shares,
			SHARES_MAX);
	if (g->deadline_ms > DEADLINE_MS_MAX)
		return config_complain(p, node, "deadline", "is %u; should be 0 (never) to %u milliseconds",
			g->deadline_ms, DEADLINE_MS_MAX);
	if (!g->kernel[0])
		return config_complain(p, node, "kernel", "is missing; write kernel = \"guest.elf\"");
	return OK;
}

static bool name_is_good(const char *name)
{
	for (const char *c = name; *c; c++) {
		bool good = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			(*c >= '0' && *c <= '9') || *c == '-' || *c == '_';
		if (!good)
			return false;
	}
	/* On the console a number is an id, -x an option and `all` all of them. */
	return *name && (*name < '0' || *name > '9') && *name != '-' && strcmp(name, "all");
}

static bool name_is_taken(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->guest_count; i++)
		if (!strcmp(c->guest[i].name, name))
			return true;
	return false;
}

/* Guests that name the same group get the same number: 1 + the first one's place in the list. */
static void number_group(const struct config *c, struct config_guest *g)
{
	uint32_t i = 0;

	g->share_none = !strcmp(g->share, "none");
	if (g->share_none || !strcmp(g->share, "own"))
		return;
	while (i < c->guest_count && strcmp(c->guest[i].share, g->share))
		i++;
	g->share_group = (uint16_t)(i + 1);
}

static status_t add_guest(struct config_parser *p, int node, struct config_guest *g)
{
	if (p->out->guest_count == CONFIG_GUEST_MAX)
		return config_complain(p, node, NULL, "more than %u guests in all", CONFIG_GUEST_MAX);
	if (name_is_taken(p->out, g->name))
		return config_complain(p, node, NULL, "there is a guest \"%s\" already", g->name);
	number_group(p->out, g);
	p->out->guest[p->out->guest_count++] = *g;
	return OK;
}

static status_t take_guest(struct config_parser *p, int node)
{
	struct guest_node n = {
		.guest = { .shares = 1000, .vcpus = 1, .cpu_shares = 1000, .cpus = UINT64_MAX, .autostart = true,
			.min_bytes = UINT64_MAX, .max_bytes = UINT64_MAX, .deadline_ms = DEADLINE_MS, .share = "own" },
		.count = UINT32_MAX,
	};
	struct config_guest *g = &n.guest;
	const char *name = config_node_name(p, node);
	status_t s = config_take_properties(p, node, &guest_table, &n);

	if (s != OK)
		return s;
	if (g->max_bytes == UINT64_MAX)
		g->max_bytes = g->memory_bytes;
	if (g->min_bytes == UINT64_MAX)
		g->min_bytes = MIN(g->memory_bytes / 4, g->max_bytes);
	s = check_guest(p, node, g);
	if (s != OK)
		return s;
	g->start_bytes = g->memory_bytes;
	if (g->dynamic) /* it is told the most that it may come to have */
		g->memory_bytes = g->max_bytes;
	if (fdt_first_subnode(p->dtb, node) >= 0)
		return config_complain(p, node, NULL, "a guest has no nodes below it");
	if (!name_is_good(name) || strlen(name) > CONFIG_NAME_BYTES - 4)
		return config_complain(p, node, NULL,
			"a guest's name is letters, digits, - and _, not a digit first, nor -, nor \"all\", "
			"at most %u long",
			CONFIG_NAME_BYTES - 4);
	if (n.count == UINT32_MAX) {
		str_copy(g->name, sizeof(g->name), name);
		return add_guest(p, node, g);
	}
	if (n.count < 1 || n.count > COUNT_MAX)
		return config_complain(p, node, "count", "is %u; should be 1 to %u", n.count, COUNT_MAX);
	for (uint32_t i = 0; i < n.count && s == OK; i++) {
		fmt_snprintf(g->name, sizeof(g->name), "%s%u", name, i);
		s = add_guest(p, node, g);
	}
	return s;
}

static status_t take_guests(struct config_parser *p, int node)
{
	int guest;
	status_t s = config_take_properties(p, node, &guests_table, NULL);

	fdt_for_each_subnode(guest, p->dtb, node) {
		if (s != OK)
			return s;
		s = take_guest(p, guest);
	}
	return s;
}

static const struct config_property disk_properties[] = {
	{ "index", config_take_u32, offsetof(struct config, disk_index) },
};
static const struct config_table disk_table = { "the disk node", disk_properties,
	ARRAY_COUNT(disk_properties) };

static const struct config_property root_properties[] = {
	{ "compatible", check_compatible, 0 },
	{ "pool", config_take_size, offsetof(struct config, pool_bytes) },
	{ "reserve", config_take_size, offsetof(struct config, reserve_bytes) },
	{ "scrub-idle", config_take_flag, offsetof(struct config, scrub_idle) },
	{ "no-scrub-idle", config_take_flag_off, offsetof(struct config, scrub_idle) },
	{ "debug", config_take_flag, offsetof(struct config, debug_commands) },
	{ "tax", config_take_u32, offsetof(struct config, tax_percent) },
	{ "sampling", take_sampling, offsetof(struct config, sampling) },
	{ "mitigations", take_mitigations, offsetof(struct config, mitigations) },
	{ "alloc-fault", config_take_u32, offsetof(struct config, alloc_fault) },
	{ "disk-fault", take_disk_fault, offsetof(struct config, disk_fault) },
	{ "swap", config_take_size, offsetof(struct config, swap_bytes) },
	{ "compressed", config_take_size, offsetof(struct config, compressed_bytes) },
};
static const struct config_table root_table = { "/, the top level", root_properties,
	ARRAY_COUNT(root_properties) };

static const struct config_table *const tables[] = { &root_table, &disk_table, &guest_table, NULL };

static status_t unknown_node(struct config_parser *p, int node, const char *name)
{
	struct nearest n;

	nearest_begin(&n, name);
	nearest_try(&n, "disk");
	nearest_try(&n, "guests");
	return n.best ? config_complain(p, node, NULL, "unknown node; did you mean \"%s\"?", n.best) :
			config_complain(p, node, NULL, "unknown node; / holds disk and guests");
}

static status_t take_node(struct config_parser *p, int node)
{
	const char *name = config_node_name(p, node);

	if (!strcmp(name, "guests"))
		return take_guests(p, node);
	if (strcmp(name, "disk"))
		return unknown_node(p, node, name);
	status_t s = config_take_properties(p, node, &disk_table, p->out);
	if (s == OK && p->out->disk_index >= PLATFORM_DISK_MAX)
		s = config_complain(p, node, "index", "is %u; should be 0 to %u", p->out->disk_index,
			PLATFORM_DISK_MAX - 1);
	return s;
}

static status_t check_whole(struct config_parser *p)
{
	struct config *c = p->out;
	char a[16], b[16];

	if (!fdt_getprop(p->dtb, 0, "compatible", NULL))
		return config_complain(p, 0, "compatible", "is missing; write compatible = \"%s\"", COMPATIBLE);
	if (c->pool_bytes != UINT64_MAX && c->pool_bytes / 2 < c->reserve_bytes)
		return config_complain(p, 0, "pool", "%s is less than twice the reserve, %s",
			format_size(a, sizeof(a), c->pool_bytes),
			format_size(b, sizeof(b), c->reserve_bytes));
	if (c->swap_bytes && c->disk_index == UINT32_MAX)
		return config_complain(p, 0, "swap", "needs a disk; write disk { index = <1>; };");
	if (c->disk_fault.fault != DISK_FAULT_NONE && c->disk_index == UINT32_MAX)
		return config_complain(p, 0, "disk-fault", "needs a disk; write disk { index = <1>; };");
	if (c->tax_percent > TAX_PERCENT_MAX)
		return config_complain(p, 0, "tax", "is %u; should be 0 to %u percent", c->tax_percent,
			TAX_PERCENT_MAX);
	for (uint32_t i = 0; i < c->guest_count; i++)
		if (c->guest[i].disk_bytes && c->disk_index == UINT32_MAX)
			return config_complain(p, 0, NULL, "guest %s wants a disk, and there is no disk node; "
				"write disk { index = <1>; };", c->guest[i].name);
	return OK;
}

/*
 * Versions before 16 name the root differently: libfdt 1.6.1's fdt_check_full() then follows a null
 * pointer. dtc has written 17 since 2005.
 */
static bool version_is_known(const void *dtb)
{
	return fdt_version(dtb) >= 16 && fdt_last_comp_version(dtb) <= 17;
}

status_t config_parse(const void *dtb, uint64_t bytes, struct config *out,
	char error[CONFIG_ERROR_BYTES])
{
	struct config_parser p = { dtb, out, error, tables };
	int node;

	*out = (struct config){ .pool_bytes = UINT64_MAX, .reserve_bytes = RESERVE_DEFAULT,
		.scrub_idle = true, .disk_index = UINT32_MAX, .compressed_bytes = UINT64_MAX,
		.tax_percent = TAX_PERCENT };
	error[0] = '\0';
	if (!dtb || bytes < sizeof(struct fdt_header) || !version_is_known(dtb) ||
		fdt_check_full(dtb, (size_t)bytes) != 0) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES,
			"not a whole device tree (%lu bytes); compile it with dtc -O dtb", bytes);
		return ERR_FORMAT;
	}
	status_t s = config_take_properties(&p, 0, &root_table, out);
	fdt_for_each_subnode(node, dtb, 0) {
		if (s != OK)
			return s;
		s = take_node(&p, node);
	}
	return s == OK ? check_whole(&p) : s;
}
