/* Tab at the prompt: the names behind vmm/complete.h's kinds, and the list on the screen. */
#include <assert.h>

#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/complete.h"
#include "vmm/console.h"
#include "vmm/lineedit.h"
#include "vmm/platform.h"

struct tab {
	struct complete_match match;
	bool list; /* print what matches: it was counted before */
	size_t column;
};

static void offer(struct tab *t, const char *word, size_t bytes, size_t skip)
{
	struct complete_offer o = { word, bytes, skip, false };

	if (!complete_match(&t->match, &o) || !t->list)
		return;
	if (t->column && t->column + bytes >= LINEEDIT_COLUMNS) {
		console_write("\n", 1);
		t->column = 0;
	}
	console_write(word, bytes);
	console_write("  ", 2);
	t->column += bytes + 2;
}

static void offer_guests(struct tab *t, size_t skip)
{
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		offer(t, g->config.name, strlen(g->config.name), skip);
}

/* For create: guests that are not here; behind like= those that are, too. */
static void offer_nodes(struct tab *t, size_t skip)
{
	if (skip)
		offer_guests(t, skip);
	for (uint32_t i = 0; i < hv_config.guest_count; i++) {
		const char *name = hv_config.guest[i].name;

		if (!guest_find(name))
			offer(t, name, strlen(name), skip);
	}
}

static void offer_disks(struct tab *t, size_t skip)
{
	static const char digits[] = "01234567";

	static_assert(sizeof(digits) == PLATFORM_DISK_MAX + 1, "one each");
	for (uint32_t i = 0; i < PLATFORM_DISK_MAX; i++) {
		const struct platform_disk *d = platform_disk(i);

		if (d && d->present)
			offer(t, digits + i, 1, skip);
	}
}

static void offer_commands(struct tab *t)
{
	for (uint32_t i = 0; i < command_count; i++)
		offer(t, command_table[i].name, strlen(command_table[i].name), 0);
}

static bool is(const struct complete_offer *o, const char *kind)
{
	return o->bytes == strlen(kind) && !strncmp(o->word, kind, o->bytes);
}

static void offer_one(void *ctx, const struct complete_offer *o)
{
	struct tab *t = ctx;

	if (!o->kind)
		offer(t, o->word, o->bytes, o->skip);
	else if (is(o, "GUEST"))
		offer_guests(t, o->skip);
	else if (is(o, "NAME"))
		offer_nodes(t, o->skip);
	else if (is(o, "DISK"))
		offer_disks(t, o->skip);
	else if (is(o, "COMMAND"))
		offer_commands(t);
	/* Of other kinds, sizes and numbers, there is nothing to choose from. */
}

static void offer_all(struct tab *t, const struct complete_place *place)
{
	const struct command *c;

	if (!place->command) {
		offer_commands(t);
		return;
	}
	c = command_find(place->command, place->command_bytes);
	if (!c)
		return;
	complete_words(c->arguments, place, offer_one, t);
	if (c->json && place->bytes && place->word[0] == '-')
		offer(t, "-j", 2, 0);
}

size_t command_complete(void *ctx, const char *line, size_t cursor, char *insert, size_t room,
	bool *shown)
{
	struct complete_place place;
	struct tab t = { .match = { .place = &place } };

	(void)ctx;
	complete_find(line, cursor, &place);
	offer_all(&t, &place);
	if (!t.match.count)
		return 0;
	const struct complete_match *m = &t.match;
	size_t n = MIN(m->common - m->typed, room - 1);

	memcpy(insert, m->first + m->typed, n);
	if (m->count == 1 && m->first[m->common - 1] != '=') {
		insert[n++] = ' ';
	} else if (!n) {
		console_write("\n", 1);
		t = (struct tab){ .match = { .place = &place }, .list = true };
		offer_all(&t, &place);
		console_write("\n", 1);
		*shown = true;
	}
	return n;
}
