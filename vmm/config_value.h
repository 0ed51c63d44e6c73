/* Inside the configuration's parser: how a property's value is read. See vmm/config.h. */
#pragma once

#include "vmm/base/fmt.h"
#include "vmm/config.h"

struct config_parser {
	const void *dtb;
	struct config *out;
	char *error; /* CONFIG_ERROR_BYTES */
	const struct config_table *const *tables; /* all that have properties; NULL ends them */
};

struct config_property {
	const char *name;
	status_t (*take)(struct config_parser *p, int node, const char *name, void *to);
	size_t offset; /* of the destination in the struct that the node fills */
};

/* What a kind of node may have. */
struct config_table {
	const char *place; /* "the top level": for people */
	const struct config_property *property;
	size_t count;
};

/* Each property of `node` goes through the table into `base`; one that it does not know is an error. */
status_t config_take_properties(struct config_parser *p, int node, const struct config_table *table,
	void *base);

/* "vm", "/". */
const char *config_node_name(const struct config_parser *p, int node);
/* ERR_FORMAT, with "node vm, memory: ..." as the error. `name` may be NULL. */
status_t config_complain(struct config_parser *p, int node, const char *name, const char *fmt, ...)
	PRINTF(4, 5);

/* Each reads property `name` of `node` into `to`, or complains: uint64_t of bytes, uint32_t, uint64_t as a
 * mask, bool. */
status_t config_take_size(struct config_parser *p, int node, const char *name, void *to);
status_t config_take_u32(struct config_parser *p, int node, const char *name, void *to);
status_t config_take_cpus(struct config_parser *p, int node, const char *name, void *to);
status_t config_take_flag(struct config_parser *p, int node, const char *name, void *to);
status_t config_take_flag_off(struct config_parser *p, int node, const char *name, void *to);
/* One terminated, printable string inside the tree; NULL, having complained. */
const char *config_take_text(struct config_parser *p, int node, const char *name);
status_t config_take_string(struct config_parser *p, int node, const char *name, char *to, size_t bytes);
