/* A guest's life: pause, unpause, create, destroy, console. */
#include "vmm/base/nearest.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/console_attach.h"
#include "vmm/overcommit.h"

void cmd_pause(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);

	if (g && guest_pause(g) != OK)
		command_error("%s is %s; only a running guest can be paused", g->config.name,
			guest_state_name(g->state));
}

void cmd_unpause(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);

	if (g && guest_unpause(g) != OK)
		command_error("%s is %s, not paused", g->config.name, guest_state_name(g->state));
}

void cmd_destroy(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);

	if (!g)
		return;
	guest_destroy(g);
	overcommit_nudge();
}

void cmd_console(const struct command_args *a)
{
	struct guest *g = command_guest(a->word[0]);

	if (g)
		console_attach(g);
}

/* ---- create ---------------------------------------------------------------------------------- */

/* A guest of the configuration, or else one that is here. */
static const struct config_guest *node_of(const char *name)
{
	for (uint32_t i = 0; i < hv_config.guest_count; i++)
		if (!strcmp(hv_config.guest[i].name, name))
			return &hv_config.guest[i];
	const struct guest *g = guest_find(name);
	return g ? &g->config : NULL;
}

static bool set_size(const char *key, const char *value, const char *name, uint64_t *to)
{
	(void)key;
	return !strcmp(key, name) && command_size(value, to);
}

#define KEYS "memory= min= max= shares= disk= cmdline= like="

static void unknown_key(const char *key)
{
	static const char *const known[] = { "memory", "min", "max", "shares", "disk", "cmdline", "like" };
	struct nearest n;

	nearest_begin(&n, key);
	for (uint32_t i = 0; i < ARRAY_COUNT(known); i++)
		nearest_try(&n, known[i]);
	if (n.best)
		command_error("create: unknown \"%s=\"; did you mean \"%s=\"?", key, n.best);
	else
		command_error("create: unknown \"%s=\"; use " KEYS, key);
}

/* One key=value word. False: it was wrong, and that was said. */
static bool override(struct config_guest *c, const char *word)
{
	char key[12];
	const char *value = strchr(word, '=');
	uint64_t n;
	size_t bytes = value ? (size_t)(value - word) : 0;

	if (!value || bytes >= sizeof(key)) {
		command_error("create: \"%.40s\"; use " KEYS, word);
		return false;
	}
	memcpy(key, word, bytes);
	key[bytes] = '\0';
	value++;
	if (!strcmp(key, "memory") || !strcmp(key, "min") || !strcmp(key, "max") || !strcmp(key, "disk"))
		return set_size(key, value, "memory", &c->memory_bytes) ||
			set_size(key, value, "min", &c->min_bytes) ||
			set_size(key, value, "max", &c->max_bytes) ||
			set_size(key, value, "disk", &c->disk_bytes);
	if (!strcmp(key, "like"))
		return true; /* taken before */
	if (!strcmp(key, "shares")) {
		if (parse_u64(value, 100000, &n) == OK && n) {
			c->shares = (uint32_t)n;
			return true;
		}
		command_error("create: shares=%.20s; 1 to 100000", value);
		return false;
	}
	if (!strcmp(key, "cmdline")) {
		if (str_copy(c->cmdline, sizeof(c->cmdline), value))
			return true;
		command_error("create: cmdline is longer than %u characters", CONFIG_CMDLINE_BYTES - 1);
		return false;
	}
	unknown_key(key);
	return false;
}

static bool given(const struct command_args *a, const char *key)
{
	size_t n = strlen(key);

	for (uint32_t i = 1; i < a->count; i++)
		if (!strncmp(a->word[i], key, n) && a->word[i][n] == '=')
			return true;
	return false;
}

/* The first key=value word whose key came before; NULL: none. */
static const char *given_twice(const struct command_args *a)
{
	for (uint32_t i = 2; i < a->count; i++) {
		const char *equals = strchr(a->word[i], '=');

		for (uint32_t k = 1; equals && k < i; k++)
			if (!strncmp(a->word[i], a->word[k], (size_t)(equals - a->word[i]) + 1))
				return a->word[i];
	}
	return NULL;
}

/* What was not asked for follows what was; what was asked for and does not fit is an error. */
static bool fit(const struct command_args *a, struct config_guest *c)
{
	char x[16], y[16];

	if (c->dynamic) { /* memory= is what it starts with; it is told its max */
		uint64_t start = given(a, "memory") ? c->memory_bytes : c->start_bytes;

		c->start_bytes = start;
		c->memory_bytes = c->max_bytes = MAX(c->max_bytes, start);
		c->min_bytes = given(a, "min") ? c->min_bytes : MIN(c->min_bytes, start);
	} else {
		c->start_bytes = c->memory_bytes;
	}
	if (!given(a, "max") && !c->dynamic)
		c->max_bytes = given(a, "memory") ? c->memory_bytes : MIN(c->max_bytes, c->memory_bytes);
	if (!given(a, "min"))
		c->min_bytes = MIN(c->min_bytes, c->max_bytes);
	if (c->memory_bytes < MIB(4) || c->memory_bytes > GIB(64) || c->memory_bytes % MIB(2))
		command_error("create: memory is %s; should be 4M to 64G, a multiple of 2M",
			format_size(x, sizeof(x), c->memory_bytes));
	else if (c->max_bytes > c->memory_bytes)
		command_error("create: max is %s, more than memory, %s",
			format_size(x, sizeof(x), c->max_bytes),
			format_size(y, sizeof(y), c->memory_bytes));
	else if (c->min_bytes > c->max_bytes)
		command_error("create: min is %s, more than max, %s",
			format_size(x, sizeof(x), c->min_bytes), format_size(y, sizeof(y), c->max_bytes));
	else
		return true;
	return false;
}

static bool name_is_good(const char *name)
{
	for (const char *c = name; *c; c++) {
		bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
		bool later = (*c >= '0' && *c <= '9') || *c == '-' || *c == '_';
		if (!letter && (c == name || !later))
			return false;
	}
	return *name && strlen(name) < CONFIG_NAME_BYTES && strcmp(name, "all"); /* mem-set's word */
}

/* Constant size, large for the stack; CPU 0's only. */
static struct config_guest wanted;

void cmd_create(const struct command_args *a)
{
	const char *name = a->word[0], *like = name;
	char error[CONFIG_ERROR_BYTES];
	struct guest *g;

	for (uint32_t i = 1; i < a->count; i++)
		if (!strncmp(a->word[i], "like=", 5))
			like = a->word[i] + 5;
	const struct config_guest *node = node_of(like);
	if (!node) {
		command_error("create: no guest \"%.32s\" here or in the configuration; add like=%s", like,
			hv_config.guest_count ? hv_config.guest[0].name : "NODE");
		return;
	}
	if (!name_is_good(name)) {
		command_error("create: \"%.40s\": a name is letters, digits, - and _, a letter first, "
			"at most %u, not \"all\"", name, CONFIG_NAME_BYTES - 1);
		return;
	}
	if (given_twice(a)) {
		command_error("create: \"%.40s\" is given twice; keep one", given_twice(a));
		return;
	}
	wanted = *node;
	str_copy(wanted.name, sizeof(wanted.name), name);
	for (uint32_t i = 1; i < a->count; i++)
		if (!override(&wanted, a->word[i]))
			return;
	if (!fit(a, &wanted))
		return;
	if (guest_create(&wanted, &g, error) != OK)
		command_error("create: %s", error);
	else
		console_printf("%s: id %u\n", g->config.name, g->id);
}
