/*
 * still: memory of which most lies still, for the rungs below the balloon. A third of its pages are zero,
 * a third text, a third random; of the text, one page of four is one of eight that occur again and again.
 * It reads them all slowly, for ever, and each time writes one of sixteen anew, as another kind. Ring 3.
 *
 * spike: wants all its memory at a second of the clock that all guests share, and says how long it took.
 */
#include "guest-drivers/kernel/user.h"

#define PAGE_WORDS (PAGE_BYTES / 8)
#define CHANGE_EVERY 16u
#define PACE_DEFAULT (2ul << 20) /* bytes a second */
#define STEP_PAGES 16u

enum kind { KIND_ZERO, KIND_TEXT, KIND_RANDOM, KIND_COUNT };

struct still {
	uint64_t *mem;
	uint64_t pages, seed, errors;
};

/* Of the pass in which the page was last written: all that its content depends on. */
static uint64_t written_in(uint64_t page, uint64_t pass)
{
	uint64_t since = (page + pass) % CHANGE_EVERY;

	return pass > since ? pass - since : 0;
}

static uint64_t text_word(uint64_t *state)
{
	static const char words[8][9] = { "balloon ", "and the ", "frame   ", "of pages",
					  " that is", "\twait;\n\n", "guests, ", "memory. " };
	uint64_t word;

	memcpy(&word, words[user_random(state) >> 40 & 7], sizeof(word));
	return word;
}

/* The page's kind, and the seed of its words. */
static enum kind kind_of(const struct still *s, uint64_t page, uint64_t written, uint64_t *state)
{
	enum kind kind = (enum kind)((page + written) % KIND_COUNT);
	uint64_t name = (page << 20 | (written & 0xfffff)) + 1;

	if (kind == KIND_TEXT && page / KIND_COUNT % 4 == 0)
		name = page / KIND_COUNT / 4 % 8 + 1; /* in every guest */
	else
		name += s->seed << 40;
	*state = name * 0x9e3779b97f4a7c15ull | 1;
	return kind;
}

static uint64_t word_of(enum kind kind, uint64_t *state)
{
	return kind == KIND_ZERO ? 0 : kind == KIND_TEXT ? text_word(state) : user_random(state);
}

static void write_page(struct still *s, uint64_t page, uint64_t pass)
{
	uint64_t *at = s->mem + page * PAGE_WORDS, state;
	enum kind kind = kind_of(s, page, pass, &state);

	for (uint64_t i = 0; i < PAGE_WORDS; i++)
		at[i] = word_of(kind, &state);
}

static void check_page(struct still *s, uint64_t page, uint64_t written)
{
	const uint64_t *at = s->mem + page * PAGE_WORDS;
	uint64_t state;
	enum kind kind = kind_of(s, page, written, &state);

	for (uint64_t i = 0; i < PAGE_WORDS; i++) {
		uint64_t expected = word_of(kind, &state), found = at[i];

		if (found != expected)
			user_corrupt(&s->errors, &at[i], expected, found);
	}
}

void user_still(uint64_t size, uint64_t pace, uint64_t third, uint64_t seed);
void user_still(uint64_t size, uint64_t pace, uint64_t third, uint64_t seed)
{
	struct still s = { .mem = user_grow(size), .pages = size / PAGE_BYTES, .seed = seed };
	uint64_t step_ns = STEP_PAGES * PAGE_BYTES * NS_PER_S / (pace ? pace : PACE_DEFAULT);

	(void)third;
	for (uint64_t page = 0; page < s.pages; page++)
		write_page(&s, page, 0);
	for (uint64_t pass = 1;; pass++) {
		for (uint64_t page = 0; page < s.pages; page++) {
			check_page(&s, page, written_in(page, pass - 1));
			if (written_in(page, pass) == pass)
				write_page(&s, page, pass);
			if (page % STEP_PAGES == STEP_PAGES - 1)
				user_call(SYS_SLEEP, step_ns, 0, 0);
		}
		user_call(SYS_PROGRESS, pass, s.errors, 0);
	}
}

void user_spike(uint64_t size, uint64_t at_s, uint64_t third, uint64_t seed);
void user_spike(uint64_t size, uint64_t at_s, uint64_t third, uint64_t seed)
{
	uint64_t *mem = user_grow(size), words = size / 8, errors = 0;
	uint64_t now = user_call(SYS_TIME, 1, 0, 0);
	uint64_t begin = MAX(at_s * NS_PER_S, now);
	char line[80], *s;

	(void)third;
	user_call(SYS_SLEEP, begin - now, 0, 0);
	for (uint64_t i = 0; i < words; i += PAGE_WORDS)
		mem[i] = user_pattern((uint64_t)&mem[i], seed);
	uint64_t end = user_call(SYS_TIME, 1, 0, 0);

	s = user_put_decimal(user_put_text(line, "spike began at "), begin / NS_PER_MS);
	s = user_put_decimal(user_put_text(s, " ms, served after "), (end - begin) / NS_PER_MS);
	user_put_text(s, " ms");
	user_print(line);
	for (uint64_t i = 0; i < words; i += PAGE_WORDS)
		if (mem[i] != user_pattern((uint64_t)&mem[i], seed))
			user_corrupt(&errors, &mem[i], user_pattern((uint64_t)&mem[i], seed), mem[i]);
	user_call(SYS_PROGRESS, 1, errors, 0);
	user_exit(errors != 0);
}
