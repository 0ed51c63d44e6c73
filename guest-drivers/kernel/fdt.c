/* Pure. The device tree reader. */
#include "guest-drivers/kernel/fdt.h"

#define FDT_MAGIC 0xd00dfeedu
enum { FDT_BEGIN_NODE = 1, FDT_END_NODE = 2, FDT_PROP = 3, FDT_NOP = 4, FDT_END = 9 };

struct reader {
	const uint8_t *blob;
	uint32_t at, end;             /* structure block */
	uint32_t strings, strings_end;
};

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool word(struct reader *r, uint32_t *out)
{
	if (r->end - r->at < 4)
		return false;
	*out = be32(r->blob + r->at);
	r->at += 4;
	return true;
}

/* A string of [from, end) that ends there: its length, or UINT32_MAX. */
static uint32_t text_length(const uint8_t *blob, uint32_t from, uint32_t end)
{
	for (uint32_t i = from; i < end; i++)
		if (!blob[i])
			return i - from;
	return UINT32_MAX;
}

static bool same(const uint8_t *text, const char *word_)
{
	while (*word_ && *text == (uint8_t)*word_)
		text++, word_++;
	return !*word_ && !*text;
}

static bool starts(const uint8_t *text, const char *word_)
{
	while (*word_ && *text == (uint8_t)*word_)
		text++, word_++;
	return !*word_;
}

static void copy_text(char *dst, uint32_t room, const uint8_t *src, uint32_t bytes)
{
	uint32_t i = 0;

	for (; i + 1 < room && i < bytes && src[i]; i++)
		dst[i] = (char)src[i];
	dst[i] = '\0';
}

enum node { NODE_OTHER, NODE_MEMORY, NODE_CHOSEN, NODE_HYPERVISOR };

static void property(struct fdt_facts *out, enum node in, const uint8_t *name, const uint8_t *value,
		     uint32_t bytes)
{
	if (in == NODE_MEMORY && same(name, "reg") && bytes >= 16 && !out->memory_bytes) {
		out->memory_base = (uint64_t)be32(value) << 32 | be32(value + 4);
		out->memory_bytes = (uint64_t)be32(value + 8) << 32 | be32(value + 12);
	} else if (in == NODE_CHOSEN && same(name, "bootargs")) {
		copy_text(out->bootargs, sizeof(out->bootargs), value, bytes);
	} else if (in == NODE_HYPERVISOR && same(name, "guest-name")) {
		copy_text(out->name, sizeof(out->name), value, bytes);
	}
}

static const char *walk(struct reader *r, struct fdt_facts *out)
{
	unsigned int depth = 0;
	enum node in = NODE_OTHER;
	uint32_t token;

	while (word(r, &token)) {
		if (token == FDT_NOP)
			continue;
		if (token == FDT_END)
			return depth ? "the tree ends inside a node" : 0;
		if (token == FDT_BEGIN_NODE) {
			const uint8_t *name = r->blob + r->at;
			uint32_t n = text_length(r->blob, r->at, r->end);

			if (n == UINT32_MAX)
				return "a node's name does not end";
			if (++depth == 2)
				in = starts(name, "memory") ? NODE_MEMORY :
				     same(name, "chosen")   ? NODE_CHOSEN :
				     same(name, "hypervisor") ? NODE_HYPERVISOR : NODE_OTHER;
			else
				in = NODE_OTHER;
			r->at += (n + 4) & ~3u;
		} else if (token == FDT_END_NODE) {
			if (!depth--)
				return "a node ends that did not begin";
			in = NODE_OTHER;
		} else if (token == FDT_PROP) {
			uint32_t bytes, name;

			if (!word(r, &bytes) || !word(r, &name) || bytes > r->end - r->at)
				return "a property lies outside the tree";
			if (name >= r->strings_end - r->strings ||
			    text_length(r->blob, r->strings + name, r->strings_end) == UINT32_MAX)
				return "a property's name lies outside the strings";
			property(out, in, r->blob + r->strings + name, r->blob + r->at, bytes);
			if ((((uint64_t)bytes + 3) & ~3ull) > r->end - r->at)
				return "a property lies outside the tree";
			r->at += (bytes + 3) & ~3u;
		} else {
			return "a token is unknown";
		}
		if (r->at > r->end)
			return "the tree runs past its end";
	}
	return "the tree does not end";
}

const char *fdt_read(const void *blob, uint64_t room, struct fdt_facts *out)
{
	const uint8_t *b = blob;

	*out = (struct fdt_facts){ 0 };
	if (room < 40 || be32(b) != FDT_MAGIC)
		return "no device tree";
	uint32_t total = be32(b + 4), at = be32(b + 8), strings = be32(b + 12);
	uint32_t strings_bytes = be32(b + 32), bytes = be32(b + 36);

	if (total > room || total < 40)
		return "the tree is larger than its place";
	if (at > total || bytes > total - at || strings > total || strings_bytes > total - strings)
		return "a block lies outside the tree";
	struct reader r = { b, at, at + bytes, strings, strings + strings_bytes };
	const char *wrong = walk(&r, out);

	out->blob_bytes = total;
	if (!wrong && !out->memory_bytes)
		wrong = "no memory node";
	return wrong;
}
