/*
 * Pure. Tab: which words may stand at a place of a command, read off the very text that `help` shows for it
 * ("GUEST|all SIZE"): lower case is typed as it stands, upper case names a kind. Brackets only say what may be left
 * out. key= words may stand at any place from the first of them on, and KIND behind one is what its value names.
 */
#pragma once

#include "vmm/base/types.h"

/* A line that ends at the cursor, taken apart. */
struct complete_place {
	const char *word; /* its last word, perhaps empty: what is to be completed */
	size_t bytes;
	const char *command; /* its first, not terminated; NULL: `word` is the first */
	size_t command_bytes;
	uint32_t at; /* words between the two; -j is none */
};

void complete_find(const char *line, size_t cursor, struct complete_place *out);

struct complete_offer {
	const char *word; /* not terminated */
	size_t bytes;
	size_t skip; /* characters typed that it stands behind: "like=" */
	bool kind;   /* `word` names a kind: GUEST */
};

/* Calls `offer` for each word, or kind of words, that may stand there. */
void complete_words(const char *arguments, const struct complete_place *place,
	void (*offer)(void *ctx, const struct complete_offer *o), void *ctx);

/* Of all that was offered and begins with what was typed. */
struct complete_match {
	const struct complete_place *place;
	uint32_t count;
	const char *first;
	size_t common; /* characters that all of them begin with */
	size_t typed;  /* of these stand there already */
};

/* `o` is no kind. True if it matches. */
bool complete_match(struct complete_match *m, const struct complete_offer *o);
