/* Pure. Source: Devicetree Specification, "Flattened Devicetree (DTB) Format". */
#include "boot/fdtscan.h"

#define FDT_MAGIC        0xd00dfeedu
#define FDT_HEADER_BYTES 40u
#define FDT_BEGIN_NODE   1u
#define FDT_END_NODE     2u
#define FDT_PROP         3u
#define FDT_NOP          4u
#define FDT_END          9u

/* Where the walk stands: all offsets are within the tree, checked before each use. */
struct walk {
	const uint8_t *tree;
	uint32_t at, end;                  /* structure block */
	uint32_t strings, strings_end;     /* strings block */
	uint32_t depth;                    /* 1: inside the root node */
	uint32_t guests_depth;             /* 0: not below /guests */
	char node[FDTSCAN_NODE_BYTES];     /* last node entered below /guests */
	struct fdtscan *out;
	const char *why;
};

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Length of the string at `from`, or UINT32_MAX if no NUL stands before `end`. */
static uint32_t text_length(const uint8_t *tree, uint32_t from, uint32_t end)
{
	for (uint32_t i = from; i < end; i++) {
		if (tree[i] == 0)
			return i - from;
	}
	return UINT32_MAX;
}

static bool text_is(const uint8_t *p, uint32_t length, const char *want)
{
	uint32_t i = 0;

	for (; i < length && want[i]; i++) {
		if (p[i] != (uint8_t)want[i])
			return false;
	}
	return i == length && want[i] == 0;
}

static void text_copy(char *dst, uint32_t room, const uint8_t *src, uint32_t length)
{
	uint32_t n = MIN(length, room - 1);

	for (uint32_t i = 0; i < n; i++)
		dst[i] = src[i] >= 0x20 && src[i] < 0x7f ? (char)src[i] : '?';
	dst[n] = 0;
}

static status_t fail(struct walk *w, status_t s, const char *why)
{
	w->why = why;
	return s;
}

static bool name_ok(const uint8_t *p, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) {
		uint8_t c = p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '-' && c != '_')
			return false;
	}
	return length > 0 && p[0] != '.';
}

static status_t take_kernel(struct walk *w, const uint8_t *value, uint32_t bytes)
{
	struct fdtscan *out = w->out;
	uint32_t length = text_length(value, 0, bytes);

	if (length == UINT32_MAX || length + 1 != bytes)
		return fail(w, ERR_FORMAT, "kernel is not one string");
	if (length >= HANDOFF_NAME_BYTES)
		return fail(w, ERR_FORMAT, "kernel's name is too long (at most 63 characters)");
	if (!name_ok(value, length))
		return fail(w, ERR_FORMAT,
			"kernel must be a file name of letters, digits, '.', '-' and '_'");
	for (uint32_t i = 0; i < out->kernel_count; i++) {
		if (text_is(value, length, out->kernel[i]))
			return OK;
	}
	if (out->kernel_count == HANDOFF_MODULE_MAX)
		return fail(w, ERR_LIMIT, "more than 16 different kernels");
	text_copy(out->kernel[out->kernel_count], HANDOFF_NAME_BYTES, value, length);
	text_copy(out->node[out->kernel_count], FDTSCAN_NODE_BYTES, (const uint8_t *)w->node,
		text_length((const uint8_t *)w->node, 0, FDTSCAN_NODE_BYTES));
	out->kernel_count++;
	return OK;
}

static status_t begin_node(struct walk *w)
{
	const uint8_t *name = w->tree + w->at;
	uint32_t length = text_length(w->tree, w->at, w->end);

	if (length == UINT32_MAX)
		return fail(w, ERR_FORMAT, "the structure block is cut short");
	w->at += (uint32_t)ALIGN_UP(length + 1, 4);
	w->depth++;
	if (w->depth == 2 && text_is(name, length, "guests"))
		w->guests_depth = w->depth;
	if (w->guests_depth)
		text_copy(w->node, sizeof(w->node), name, length);
	return OK;
}

static status_t property(struct walk *w)
{
	if (w->end - w->at < 8)
		return fail(w, ERR_FORMAT, "the structure block is cut short");
	uint32_t bytes = be32(w->tree + w->at);
	uint32_t name = be32(w->tree + w->at + 4);

	w->at += 8;
	if (bytes > w->end - w->at)
		return fail(w, ERR_FORMAT, "a property runs past the structure block");
	if (name >= w->strings_end - w->strings)
		return fail(w, ERR_FORMAT, "a property's name lies outside the strings block");
	const uint8_t *value = w->tree + w->at;
	uint32_t length = text_length(w->tree, w->strings + name, w->strings_end);

	if (length == UINT32_MAX)
		return fail(w, ERR_FORMAT, "a property's name does not end");
	w->at += (uint32_t)ALIGN_UP(bytes, 4);
	if (w->guests_depth && text_is(w->tree + w->strings + name, length, "kernel"))
		return take_kernel(w, value, bytes);
	return OK;
}

static status_t token(struct walk *w, uint32_t t)
{
	switch (t) {
	case FDT_BEGIN_NODE:
		return begin_node(w);
	case FDT_END_NODE:
		if (w->depth == 0)
			return fail(w, ERR_FORMAT, "a node ends that never began");
		if (w->depth == w->guests_depth)
			w->guests_depth = 0;
		w->depth--;
		return OK;
	case FDT_PROP:
		return property(w);
	case FDT_NOP:
		return OK;
	default:
		return fail(w, ERR_FORMAT, "an unknown token in the structure block");
	}
}

static status_t walk(struct walk *w)
{
	while (w->at <= w->end && w->end - w->at >= 4) {
		uint32_t t = be32(w->tree + w->at);

		w->at += 4;
		if (t == FDT_END)
			return w->depth ? fail(w, ERR_FORMAT, "a node does not end") : OK;
		status_t s = token(w, t);

		if (s != OK)
			return s;
	}
	return fail(w, ERR_FORMAT, "the structure block is cut short");
}

/* Fills the walk from the header; the phrase says what is wrong, NULL if nothing is. */
static const char *check_header(struct walk *w, uint64_t bytes)
{
	const uint8_t *p = w->tree;

	if (bytes < FDT_HEADER_BYTES || be32(p) != FDT_MAGIC)
		return "not a compiled device tree (compile the .dts with dtc)";
	uint32_t total = be32(p + 4), version = be32(p + 20), compatible = be32(p + 24);
	uint32_t at = be32(p + 8), at_bytes = be32(p + 36);
	uint32_t strings = be32(p + 12), strings_bytes = be32(p + 32);

	if (total > MIB(1))
		return "larger than 1 MiB";
	if (total > bytes || total < FDT_HEADER_BYTES)
		return "the file is shorter than its header says";
	if (version < 17 || compatible > 17)
		return "not version 17 of the device tree format";
	if (at > total || at_bytes > total - at || at % 4 != 0)
		return "the structure block lies outside the file";
	if (strings > total || strings_bytes > total - strings)
		return "the strings block lies outside the file";
	w->at = at;
	w->end = at + at_bytes;
	w->strings = strings;
	w->strings_end = strings + strings_bytes;
	w->out->total_bytes = total;
	return NULL;
}

status_t fdtscan(const void *dtb, uint64_t bytes, struct fdtscan *out, const char **why)
{
	struct walk w = { .tree = dtb, .out = out };

	*out = (struct fdtscan){ 0 };
	*why = check_header(&w, bytes);
	if (*why)
		return ERR_FORMAT;
	status_t s = walk(&w);

	if (s != OK) {
		*why = w.why;
		text_copy(out->node[0], FDTSCAN_NODE_BYTES, (const uint8_t *)w.node,
			text_length((const uint8_t *)w.node, 0, FDTSCAN_NODE_BYTES));
	}
	return s;
}
