/*
 * Pure. Writes one JSON object on one line into a caller's sink. The caller keeps the nesting right;
 * commas are this module's. Strings are escaped as RFC 8259 asks; bytes above 126 become \u00XX.
 */
#pragma once

#include "vmm/base/types.h"

struct json {
	void (*put)(void *ctx, const char *s, size_t n);
	void *ctx;
	bool comma; /* something stands before, at this level */
};

void json_begin(struct json *j, void (*put)(void *ctx, const char *s, size_t n), void *ctx);
/* `key` is NULL inside an array (and for the outermost object). */
void json_object(struct json *j, const char *key);
void json_object_end(struct json *j);
void json_array(struct json *j, const char *key);
void json_array_end(struct json *j);
void json_u64(struct json *j, const char *key, uint64_t value);
void json_i64(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, bool value);
void json_string(struct json *j, const char *key, const char *value);
