/*
 * Pure. Line editing on a plain terminal: bytes in, edits and what to show out. Keys: arrows, Home,
 * End, Delete, Backspace, ^A ^E ^B ^F ^K ^U ^W ^L ^C ^D ^P ^N, Tab. Bytes that are not printable
 * ASCII and no key are dropped. A line holds LINEEDIT_BYTES - 1 characters; more ring the bell. What
 * does not fit one row of LINEEDIT_COLUMNS scrolls sideways, so that redrawing never wraps.
 */
#pragma once

#include "vmm/base/types.h"

#define LINEEDIT_BYTES   160u
#define LINEEDIT_HISTORY 16u
#define LINEEDIT_COLUMNS 79u /* the last of 80 stays free: some terminals wrap there */

struct lineedit {
	const char *prompt;
	void (*out)(void *ctx, const char *s, size_t n);
	/*
	 * Completes the word that ends at line[cursor]: writes up to `room` bytes to insert there (may be
	 * none) and returns how many; may itself show a list with `out` (then sets *shown).
	 */
	size_t (*complete)(void *ctx, const char *line, size_t cursor, char *insert, size_t room,
		bool *shown);
	void *ctx;
	char line[LINEEDIT_BYTES];
	uint32_t length, cursor;
	uint32_t first; /* the first character shown */
	uint32_t escape; /* state inside an escape sequence */
	uint32_t parameter;
	bool last_cr; /* a "\n" right after "\r" is the same key */
	char history[LINEEDIT_HISTORY][LINEEDIT_BYTES];
	uint32_t history_count; /* ever stored */
	uint32_t history_back;  /* 0: the line being typed; n: the n-th last */
	char typed[LINEEDIT_BYTES]; /* the line being typed, while history is looked through */
};

void lineedit_init(struct lineedit *e, const char *prompt,
	void (*out)(void *ctx, const char *s, size_t n),
	size_t (*complete)(void *ctx, const char *line, size_t cursor, char *insert, size_t room,
		bool *shown),
	void *ctx);
/* Prompt and line as they stand, cursor in its place. */
void lineedit_show(struct lineedit *e);
/* Takes prompt and line off the screen, so that something else can be printed there. */
void lineedit_hide(struct lineedit *e);
/* One byte typed. Returns true when a line is complete: in e->line, until the next lineedit_start(). */
bool lineedit_key(struct lineedit *e, char c);
/* Empties the line and shows the prompt. */
void lineedit_start(struct lineedit *e);
