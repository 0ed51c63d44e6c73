/* Pure (but for libfdt). */
#include "vmm/config.h"

#include <libfdt.h>

#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/platform.h"

#define COMPATIBLE  "aerostat,config-1"
#define MEMORY_MIN  MIB(4)
#define MEMORY_MAX  GIB(64)
#define SHARES_MAX  100000u
#define COUNT_MAX   CONFIG_GUEST_MAX
#define RESERVE_DEFAULT MIB(1)

struct parser {
	const void *dtb;
	struct config *out;
	char *error; /* CONFIG_ERROR_BYTES */
};

struct property {
	const char *name;
	status_t (*take)(struct parser *p, int node, const char *name, void *to);
	size_t offset; /* of the destination in the struct that the node fills */
};

static const char *node_name(const struct parser *p, int node)
{
	const char *name = fdt_get_name(p->dtb, node, NULL);

	return name && *name ? name : "/";
}

static status_t complain(struct parser *p, int node, const char *name, const char *fmt, ...)
	PRINTF(4, 5);

/* "node vm, memory: ..." */
static status_t complain(struct parser *p, int node, const char *name, const char *fmt, ...)
{
	va_list ap;
	int n = fmt_snprintf(p->error, CONFIG_ERROR_BYTES, "node %.40s%s%.32s: ", node_name(p, node),
		name ? ", " : "", name ? name : "");

	va_start(ap, fmt);
	if (n < CONFIG_ERROR_BYTES)
		fmt_vsnprintf(p->error + n, (size_t)(CONFIG_ERROR_BYTES - n), fmt, ap);
	va_end(ap);
	return ERR_FORMAT;
}

/* ---- values ------------------------------------------------------------------------------------ */

/* One terminated string, printable. NULL, having complained, if it is not. */
static const char *take_text(struct parser *p, int node, const char *name)
{
	int bytes;
	const char *s = fdt_getprop(p->dtb, node, name, &bytes);

	if (!s || bytes < 1 || memchr(s, 0, (size_t)bytes) != s + bytes - 1) {
		(void)complain(p, node, name, "should be one string, as in %s = \"...\"", name);
		return NULL;
	}
	for (const char *c = s; *c; c++)
		if (*c < ' ' || *c > '~') {
			(void)complain(p, node, name, "has a character that is not plain ASCII");
			return NULL;
		}
	return s;
}

/* A property has no type: "16M" and a cell are both four bytes. Printable and terminated is text. */
static bool looks_like_text(const uint8_t *value, int bytes)
{
	for (int i = 0; i < bytes - 1; i++)
		if (value[i] < ' ' || value[i] > '~')
			return false;
	return bytes > 1 && !value[bytes - 1];
}

static status_t take_size(struct parser *p, int node, const char *name, void *to)
{
	uint64_t *out = to;
	int bytes;
	const uint8_t *cells = fdt_getprop(p->dtb, node, name, &bytes);

	bool text_like = looks_like_text(cells, bytes);
	if (bytes == 4 && !text_like) {
		*out = fdt32_ld((const fdt32_t *)(const void *)cells);
		return OK;
	}
	if (bytes == 8 && !text_like) {
		*out = fdt64_ld((const fdt64_t *)(const void *)cells);
		return OK;
	}
	const char *text = take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	status_t s = parse_size(text, KIB(1), out);
	if (s != OK)
		return complain(p, node, name, "\"%.24s\" is %s; write \"16M\", \"512K\" or \"2G\"", text,
			s == ERR_RANGE ? "too large" : "not a size");
	return OK;
}

static status_t take_u32(struct parser *p, int node, const char *name, void *to)
{
	int bytes;
	const fdt32_t *cell = fdt_getprop(p->dtb, node, name, &bytes);

	if (bytes != 4)
		return complain(p, node, name, "should be one number, as in %s = <1>", name);
	*(uint32_t *)to = fdt32_ld(cell);
	return OK;
}

/* xl's form: "0-3,5". A single digit of text cannot be mistaken for a cell: it has two bytes. */
static status_t take_cpus(struct parser *p, int node, const char *name, void *to)
{
	const char *text = take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	status_t s = parse_cpus(text, to);
	if (s != OK)
		return complain(p, node, name, "\"%.24s\" %s; write \"0\", \"0-3\" or \"0-1,3\"", text,
			s == ERR_RANGE ? "names a CPU above 63, or a range backwards" : "is not a list of CPUs");
	return OK;
}

static status_t take_flag(struct parser *p, int node, const char *name, void *to)
{
	int bytes;

	(void)fdt_getprop(p->dtb, node, name, &bytes);
	if (bytes != 0)
		return complain(p, node, name, "takes no value: write just \"%s;\"", name);
	*(bool *)to = true;
	return OK;
}

static status_t take_flag_off(struct parser *p, int node, const char *name, void *to)
{
	status_t s = take_flag(p, node, name, to);

	*(bool *)to = false;
	return s;
}

static status_t take_string(struct parser *p, int node, const char *name, char *to, size_t bytes)
{
	const char *text = take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	if (!str_copy(to, bytes, text))
		return complain(p, node, name, "is longer than %lu characters", bytes - 1);
	return OK;
}

static status_t take_kernel(struct parser *p, int node, const char *name, void *to)
{
	return take_string(p, node, name, to, CONFIG_KERNEL_BYTES);
}

static status_t take_cmdline(struct parser *p, int node, const char *name, void *to)
{
	return take_string(p, node, name, to, CONFIG_CMDLINE_BYTES);
}

static bool name_is_good(const char *name);

static status_t take_share(struct parser *p, int node, const char *name, void *to)
{
	const char *text = take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	if (!name_is_good(text) || !str_copy(to, CONFIG_SHARE_BYTES, text))
		return complain(p, node, name,
			"should be \"none\", \"own\" or a group's name: letters, digits, - and _, at most %u",
			CONFIG_SHARE_BYTES - 1);
	return OK;
}

static status_t check_compatible(struct parser *p, int node, const char *name, void *to)
{
	(void)to;
	const char *text = take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	if (strcmp(text, COMPATIBLE))
		return complain(p, node, name, "is \"%.40s\"; this version reads \"%s\"", text, COMPATIBLE);
	return OK;
}

/* ---- nodes ------------------------------------------------------------------------------------- */

/* Names that the table knows, for the message. */
static void list_names(const struct property *table, size_t count, char *buf, size_t bytes)
{
	size_t at = 0;

	str_copy(buf, bytes, "none"); /* a node may have no property of its own: guests */
	for (size_t i = 0; i < count && at < bytes; i++)
		at += (size_t)fmt_snprintf(buf + at, bytes - at, "%s%s", i ? " " : "", table[i].name);
}

/* Each property of `node` goes through the table into `base`; an unknown one is an error. */
static status_t take_properties(struct parser *p, int node, const struct property *table,
	size_t count, void *base)
{
	char known[120];
	uint32_t seen = 0;
	int at;

	fdt_for_each_property_offset(at, p->dtb, node) {
		const char *name = NULL;
		size_t i = 0;
		if (!fdt_getprop_by_offset(p->dtb, at, &name, NULL) || !name)
			return complain(p, node, NULL, "a property cannot be read: the file is damaged");
		while (i < count && strcmp(name, table[i].name))
			i++;
		if (i < count && (seen & 1u << i))
			return complain(p, node, name, "is given twice; keep one");
		if (i == count) {
			list_names(table, count, known, sizeof(known));
			return complain(p, node, name, "unknown property; known: %s", known);
		}
		seen |= 1u << i;
		status_t s = table[i].take(p, node, name, (char *)base + table[i].offset);
		if (s != OK)
			return s;
	}
	return OK;
}

struct guest_node {
	struct config_guest guest;
	uint32_t count;
};

#define GUEST(field) offsetof(struct guest_node, guest.field)

static const struct property guest_properties[] = {
	{ "count", take_u32, offsetof(struct guest_node, count) },
	{ "memory", take_size, GUEST(memory_bytes) },
	{ "min", take_size, GUEST(min_bytes) },
	{ "max", take_size, GUEST(max_bytes) },
	{ "shares", take_u32, GUEST(shares) },
	{ "vcpus", take_u32, GUEST(vcpus) },
	{ "cpu-shares", take_u32, GUEST(cpu_shares) },
	{ "cpus", take_cpus, GUEST(cpus) },
	{ "kernel", take_kernel, GUEST(kernel) },
	{ "disk", take_size, GUEST(disk_bytes) },
	{ "cmdline", take_cmdline, GUEST(cmdline) },
	{ "noauto", take_flag_off, GUEST(autostart) },
	{ "debug", take_flag, GUEST(debug) },
	{ "huge", take_flag, GUEST(huge) },
	{ "share", take_share, GUEST(share) },
};

static status_t check_guest(struct parser *p, int node, const struct config_guest *g)
{
	char a[16], b[16];

	if (!g->memory_bytes)
		return complain(p, node, "memory", "is missing; write memory = \"16M\"");
	if (g->memory_bytes < MEMORY_MIN || g->memory_bytes > MEMORY_MAX || g->memory_bytes % MIB(2))
		return complain(p, node, "memory", "is %s; should be 4M to 64G, a multiple of 2M",
			format_size(a, sizeof(a), g->memory_bytes));
	if (g->max_bytes > g->memory_bytes)
		return complain(p, node, "max", "is %s, more than memory, %s",
			format_size(a, sizeof(a), g->max_bytes),
			format_size(b, sizeof(b), g->memory_bytes));
	if (g->min_bytes > g->max_bytes)
		return complain(p, node, "min", "is %s, more than max, %s",
			format_size(a, sizeof(a), g->min_bytes), format_size(b, sizeof(b), g->max_bytes));
	if (g->shares < 1 || g->shares > SHARES_MAX)
		return complain(p, node, "shares", "is %u; should be 1 to %u", g->shares, SHARES_MAX);
	if (g->vcpus < 1 || g->vcpus > CONFIG_VCPU_MAX)
		return complain(p, node, "vcpus", "is %u; should be 1 to %u", g->vcpus, CONFIG_VCPU_MAX);
	if (g->cpu_shares < 1 || g->cpu_shares > SHARES_MAX)
		return complain(p, node, "cpu-shares", "is %u; should be 1 to %u", g->cpu_shares,
			SHARES_MAX);
	if (!g->kernel[0])
		return complain(p, node, "kernel", "is missing; write kernel = \"guest.elf\"");
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

static status_t add_guest(struct parser *p, int node, struct config_guest *g)
{
	if (p->out->guest_count == CONFIG_GUEST_MAX)
		return complain(p, node, NULL, "more than %u guests in all", CONFIG_GUEST_MAX);
	if (name_is_taken(p->out, g->name))
		return complain(p, node, NULL, "there is a guest \"%s\" already", g->name);
	number_group(p->out, g);
	p->out->guest[p->out->guest_count++] = *g;
	return OK;
}

static status_t take_guest(struct parser *p, int node)
{
	struct guest_node n = {
		.guest = { .shares = 1000, .vcpus = 1, .cpu_shares = 1000, .cpus = UINT64_MAX, .autostart = true, .min_bytes = UINT64_MAX,
			.max_bytes = UINT64_MAX, .share = "own" },
		.count = UINT32_MAX,
	};
	struct config_guest *g = &n.guest;
	const char *name = node_name(p, node);
	status_t s = take_properties(p, node, guest_properties, ARRAY_COUNT(guest_properties), &n);

	if (s != OK)
		return s;
	if (g->max_bytes == UINT64_MAX)
		g->max_bytes = g->memory_bytes;
	if (g->min_bytes == UINT64_MAX)
		g->min_bytes = MIN(g->memory_bytes / 4, g->max_bytes);
	s = check_guest(p, node, g);
	if (s != OK)
		return s;
	if (fdt_first_subnode(p->dtb, node) >= 0)
		return complain(p, node, NULL, "a guest has no nodes below it");
	if (!name_is_good(name) || strlen(name) > CONFIG_NAME_BYTES - 4)
		return complain(p, node, NULL,
			"a guest's name is letters, digits, - and _, not a digit first, nor -, nor \"all\", "
			"at most %u long",
			CONFIG_NAME_BYTES - 4);
	if (n.count == UINT32_MAX) {
		str_copy(g->name, sizeof(g->name), name);
		return add_guest(p, node, g);
	}
	if (n.count < 1 || n.count > COUNT_MAX)
		return complain(p, node, "count", "is %u; should be 1 to %u", n.count, COUNT_MAX);
	for (uint32_t i = 0; i < n.count && s == OK; i++) {
		fmt_snprintf(g->name, sizeof(g->name), "%s%u", name, i);
		s = add_guest(p, node, g);
	}
	return s;
}

static status_t take_guests(struct parser *p, int node)
{
	int guest;
	status_t s = take_properties(p, node, NULL, 0, NULL);

	fdt_for_each_subnode(guest, p->dtb, node) {
		if (s != OK)
			return s;
		s = take_guest(p, guest);
	}
	return s;
}

static const struct property disk_properties[] = {
	{ "index", take_u32, offsetof(struct config, disk_index) },
};

static const struct property root_properties[] = {
	{ "compatible", check_compatible, 0 },
	{ "pool", take_size, offsetof(struct config, pool_bytes) },
	{ "reserve", take_size, offsetof(struct config, reserve_bytes) },
	{ "scrub-idle", take_flag, offsetof(struct config, scrub_idle) },
	{ "no-scrub-idle", take_flag_off, offsetof(struct config, scrub_idle) },
	{ "debug", take_flag, offsetof(struct config, debug_commands) },
};

static status_t take_node(struct parser *p, int node)
{
	const char *name = node_name(p, node);

	if (!strcmp(name, "guests"))
		return take_guests(p, node);
	if (strcmp(name, "disk"))
		return complain(p, node, NULL, "unknown node; / holds disk and guests");
	status_t s = take_properties(p, node, disk_properties, ARRAY_COUNT(disk_properties), p->out);
	if (s == OK && p->out->disk_index >= PLATFORM_DISK_MAX)
		s = complain(p, node, "index", "is %u; should be 0 to %u", p->out->disk_index,
			PLATFORM_DISK_MAX - 1);
	return s;
}

static status_t check_whole(struct parser *p)
{
	struct config *c = p->out;
	char a[16], b[16];

	if (!fdt_getprop(p->dtb, 0, "compatible", NULL))
		return complain(p, 0, "compatible", "is missing; write compatible = \"%s\"", COMPATIBLE);
	if (c->pool_bytes != UINT64_MAX && c->pool_bytes / 2 < c->reserve_bytes)
		return complain(p, 0, "pool", "%s is less than twice the reserve, %s",
			format_size(a, sizeof(a), c->pool_bytes),
			format_size(b, sizeof(b), c->reserve_bytes));
	for (uint32_t i = 0; i < c->guest_count; i++)
		if (c->guest[i].disk_bytes && c->disk_index == UINT32_MAX)
			return complain(p, 0, NULL, "guest %s wants a disk, and there is no disk node; "
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
	struct parser p = { dtb, out, error };
	int node;

	*out = (struct config){ .pool_bytes = UINT64_MAX, .reserve_bytes = RESERVE_DEFAULT,
		.scrub_idle = true, .disk_index = UINT32_MAX };
	error[0] = '\0';
	if (!dtb || bytes < sizeof(struct fdt_header) || !version_is_known(dtb) ||
		fdt_check_full(dtb, (size_t)bytes) != 0) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES,
			"not a whole device tree (%lu bytes); compile it with dtc -O dtb", bytes);
		return ERR_FORMAT;
	}
	status_t s = take_properties(&p, 0, root_properties, ARRAY_COUNT(root_properties), out);
	fdt_for_each_subnode(node, dtb, 0) {
		if (s != OK)
			return s;
		s = take_node(&p, node);
	}
	return s == OK ? check_whole(&p) : s;
}
