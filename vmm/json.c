/* Pure. */
#include "vmm/json.h"

#include "vmm/base/fmt.h"
#include "vmm/base/string.h"

static void text(struct json *j, const char *s)
{
	j->put(j->ctx, s, strlen(s));
}

static void quoted(struct json *j, const char *s)
{
	char code[8];

	text(j, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\') {
			char pair[2] = { '\\', *s };
			j->put(j->ctx, pair, 2);
		} else if (c < ' ' || c > '~') {
			fmt_snprintf(code, sizeof(code), "\\u%04x", c);
			text(j, code);
		} else {
			j->put(j->ctx, s, 1);
		}
	}
	text(j, "\"");
}

static void begin_value(struct json *j, const char *key)
{
	if (j->comma)
		text(j, ",");
	j->comma = true;
	if (key) {
		quoted(j, key);
		text(j, ":");
	}
}

void json_begin(struct json *j, void (*put)(void *ctx, const char *s, size_t n), void *ctx)
{
	*j = (struct json){ put, ctx, false };
}

void json_object(struct json *j, const char *key)
{
	begin_value(j, key);
	text(j, "{");
	j->comma = false;
}

void json_object_end(struct json *j)
{
	text(j, "}");
	j->comma = true;
}

void json_array(struct json *j, const char *key)
{
	begin_value(j, key);
	text(j, "[");
	j->comma = false;
}

void json_array_end(struct json *j)
{
	text(j, "]");
	j->comma = true;
}

void json_u64(struct json *j, const char *key, uint64_t value)
{
	char b[24];

	begin_value(j, key);
	fmt_snprintf(b, sizeof(b), "%lu", value);
	text(j, b);
}

void json_i64(struct json *j, const char *key, int64_t value)
{
	char b[24];

	begin_value(j, key);
	fmt_snprintf(b, sizeof(b), "%ld", value);
	text(j, b);
}

void json_bool(struct json *j, const char *key, bool value)
{
	begin_value(j, key);
	text(j, value ? "true" : "false");
}

void json_string(struct json *j, const char *key, const char *value)
{
	begin_value(j, key);
	quoted(j, value);
}
