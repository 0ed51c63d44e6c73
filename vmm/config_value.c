/* Pure (but for libfdt). See vmm/config_value.h. */
#include "vmm/config_value.h"

#include <libfdt.h>

#include "vmm/base/nearest.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"

const char *config_node_name(const struct config_parser *p, int node)
{
	const char *name = fdt_get_name(p->dtb, node, NULL);

	return name && *name ? name : "/";
}

status_t config_complain(struct config_parser *p, int node, const char *name, const char *fmt, ...)
{
	va_list ap;
	int n = fmt_snprintf(p->error, CONFIG_ERROR_BYTES, "node %.40s%s%.32s: ", config_node_name(p, node),
		name ? ", " : "", name ? name : "");

	va_start(ap, fmt);
	if (n < CONFIG_ERROR_BYTES)
		fmt_vsnprintf(p->error + n, (size_t)(CONFIG_ERROR_BYTES - n), fmt, ap);
	va_end(ap);
	return ERR_FORMAT;
}

/* ---- values ------------------------------------------------------------------------------------ */

const char *config_take_text(struct config_parser *p, int node, const char *name)
{
	int bytes;
	const char *s = fdt_getprop(p->dtb, node, name, &bytes);

	if (!s || bytes < 1 || memchr(s, 0, (size_t)bytes) != s + bytes - 1) {
		(void)config_complain(p, node, name, "should be one string, as in %s = \"...\"", name);
		return NULL;
	}
	for (const char *c = s; *c; c++)
		if (*c < ' ' || *c > '~') {
			(void)config_complain(p, node, name, "has a character that is not plain ASCII");
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

status_t config_take_size(struct config_parser *p, int node, const char *name, void *to)
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
	const char *text = config_take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	status_t s = parse_size(text, KIB(1), out);
	if (s != OK)
		return config_complain(p, node, name, "\"%.24s\" is %s; write \"16M\", \"512K\" or \"2G\"", text,
			s == ERR_RANGE ? "too large" : "not a size");
	return OK;
}

status_t config_take_u32(struct config_parser *p, int node, const char *name, void *to)
{
	int bytes;
	const fdt32_t *cell = fdt_getprop(p->dtb, node, name, &bytes);

	if (bytes != 4)
		return config_complain(p, node, name, "should be one number, as in %s = <1>", name);
	*(uint32_t *)to = fdt32_ld(cell);
	return OK;
}

/* xl's form: "0-3,5". A single digit of text cannot be mistaken for a cell: it has two bytes. */
status_t config_take_cpus(struct config_parser *p, int node, const char *name, void *to)
{
	const char *text = config_take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	status_t s = parse_cpus(text, to);
	if (s != OK)
		return config_complain(p, node, name, "\"%.24s\" %s; write \"0\", \"0-3\" or \"0-1,3\"", text,
			s == ERR_RANGE ? "names a CPU above 63, or a range backwards" : "is not a list of CPUs");
	return OK;
}

status_t config_take_flag(struct config_parser *p, int node, const char *name, void *to)
{
	int bytes;

	(void)fdt_getprop(p->dtb, node, name, &bytes);
	if (bytes != 0)
		return config_complain(p, node, name, "takes no value: write just \"%s;\"", name);
	*(bool *)to = true;
	return OK;
}

status_t config_take_flag_off(struct config_parser *p, int node, const char *name, void *to)
{
	status_t s = config_take_flag(p, node, name, to);

	*(bool *)to = false;
	return s;
}

status_t config_take_string(struct config_parser *p, int node, const char *name, char *to, size_t bytes)
{
	const char *text = config_take_text(p, node, name);

	if (!text)
		return ERR_FORMAT;
	if (!str_copy(to, bytes, text))
		return config_complain(p, node, name, "is longer than %lu characters", bytes - 1);
	return OK;
}

/* ---- properties --------------------------------------------------------------------------------- */

static const struct config_property *find(const struct config_table *t, const char *name)
{
	for (size_t i = 0; i < t->count; i++)
		if (!strcmp(name, t->property[i].name))
			return &t->property[i];
	return NULL;
}

/* Names that the table knows, for the message. */
static void list_names(const struct config_table *t, char *buf, size_t bytes)
{
	size_t at = 0;

	str_copy(buf, bytes, "none"); /* a node may have no property of its own: guests */
	for (size_t i = 0; i < t->count && at < bytes; i++)
		at += (size_t)fmt_snprintf(buf + at, bytes - at, "%s%s", i ? " " : "", t->property[i].name);
}

/* Right, but in the wrong node; misspelt; or neither. */
static status_t unknown_property(struct config_parser *p, int node, const struct config_table *table,
	const char *name)
{
	struct nearest n;
	char known[200];

	for (const struct config_table *const *t = p->tables; *t; t++)
		if (find(*t, name))
			return config_complain(p, node, name, "belongs in %s", (*t)->place);
	nearest_begin(&n, name);
	for (size_t i = 0; i < table->count; i++)
		nearest_try(&n, table->property[i].name);
	if (n.best)
		return config_complain(p, node, name, "unknown property; did you mean \"%s\"?", n.best);
	list_names(table, known, sizeof(known));
	return config_complain(p, node, name, "unknown property; known: %s", known);
}

status_t config_take_properties(struct config_parser *p, int node, const struct config_table *table,
	void *base)
{
	uint32_t seen = 0;
	int at;

	fdt_for_each_property_offset(at, p->dtb, node) {
		const char *name = NULL;

		if (!fdt_getprop_by_offset(p->dtb, at, &name, NULL) || !name)
			return config_complain(p, node, NULL, "a property cannot be read: the file is damaged");
		const struct config_property *property = find(table, name);

		if (!property)
			return unknown_property(p, node, table, name);
		uint32_t bit = 1u << (property - table->property);

		if (seen & bit)
			return config_complain(p, node, name, "is given twice; keep one");
		seen |= bit;
		status_t s = property->take(p, node, name, (char *)base + property->offset);

		if (s != OK)
			return s;
	}
	return OK;
}
