/* Pure. See vmm/complete.h. */
#include "vmm/complete.h"

#include "vmm/base/string.h"

static size_t word_bytes(const char *s, const char *end)
{
	size_t n = 0;

	while (s + n < end && s[n] && s[n] != ' ')
		n++;
	return n;
}

void complete_find(const char *line, size_t cursor, struct complete_place *out)
{
	const char *end = line + cursor, *s = line;

	*out = (struct complete_place){ .word = end };
	while (out->word > line && out->word[-1] != ' ')
		out->word--;
	out->bytes = (size_t)(end - out->word);
	for (;;) {
		while (s < out->word && *s == ' ')
			s++;
		if (s >= out->word)
			return;
		size_t n = word_bytes(s, out->word);

		if (!out->command) {
			out->command = s;
			out->command_bytes = n;
		} else if (n != 2 || strncmp(s, "-j", 2)) {
			out->at++;
		}
		s += n;
	}
}

/* The next word of a help text from *s on, without brackets; its bytes, 0 at the end. */
static size_t next_token(const char **s, const char **token)
{
	while (**s == ' ' || **s == '[' || **s == ']')
		(*s)++;
	*token = *s;
	while (**s && **s != ' ' && **s != ']')
		(*s)++;
	return (size_t)(*s - *token);
}

/* One alternative, or what may stand behind a key=. */
static struct complete_offer offer_of(const char *word, size_t bytes, size_t skip)
{
	return (struct complete_offer){ word, bytes, skip, *word >= 'A' && *word <= 'Z' };
}

/* "like=NAME": like= while that is typed, a name behind it. */
static void offer_key(const char *token, size_t n, const struct complete_place *place,
	void (*offer)(void *ctx, const struct complete_offer *o), void *ctx)
{
	size_t key = (size_t)((const char *)memchr(token, '=', n) - token) + 1;
	bool typed = place->bytes >= key && !strncmp(place->word, token, key);
	struct complete_offer o = typed ? offer_of(token + key, n - key, key) : offer_of(token, key, 0);

	if (o.bytes)
		offer(ctx, &o);
}

static void offer_alternatives(const char *token, size_t n,
	void (*offer)(void *ctx, const struct complete_offer *o), void *ctx)
{
	for (size_t from = 0, to; from < n; from = to + 1) {
		for (to = from; to < n && token[to] != '|'; to++)
			;
		struct complete_offer o = offer_of(token + from, to - from, 0);

		offer(ctx, &o);
	}
}

void complete_words(const char *arguments, const struct complete_place *place,
	void (*offer)(void *ctx, const struct complete_offer *o), void *ctx)
{
	const char *token;
	uint32_t at = 0;
	size_t n;

	while ((n = next_token(&arguments, &token))) {
		bool key = memchr(token, '=', n);

		if (key && place->at >= at)
			offer_key(token, n, place, offer, ctx);
		else if (!key && place->at == at)
			offer_alternatives(token, n, offer, ctx);
		at += !key; /* several key= words share their places */
	}
}

bool complete_match(struct complete_match *m, const struct complete_offer *o)
{
	size_t same = 0, typed = m->place->bytes - o->skip;

	if (o->bytes < typed || strncmp(o->word, m->place->word + o->skip, typed))
		return false;
	if (!m->count++) {
		m->first = o->word;
		m->common = o->bytes;
		m->typed = typed;
	}
	while (same < m->common && same < o->bytes && o->word[same] == m->first[same])
		same++;
	m->common = same;
	return true;
}
