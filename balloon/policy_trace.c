/* Pure. */
#include "balloon/policy_trace.h"

/* What a field is if it is left out. */
enum usual { ZERO, ALL, MEMORY };

struct field {
	char letter;
	uint8_t bytes, usual; /* of the number; enum usual */
	uint16_t offset;      /* in struct policy_trace */
	uint64_t most;
};

#define AT(member, letter, usual, most)                                                            \
	{ letter, sizeof(((struct policy_trace *)0)->member), usual,                               \
		offsetof(struct policy_trace, member), most }
#define PAGES(member, letter, usual) AT(member, letter, usual, POLICY_TRACE_PAGES)

static const struct field step_field[] = {
	AT(time_ms, '@', ZERO, UINT64_MAX),
	PAGES(pool.pool_pages, 'p', ZERO),
	PAGES(pool.free_pages, 'f', ZERO),
	PAGES(pool.emergency_pages, 'e', ZERO),
	AT(pool.level, 'l', ZERO, POLICY_LOW),
	AT(pool.tax_percent, 't', ZERO, POLICY_TAX_MAX),
	AT(guest_count, 'n', ZERO, UINT32_MAX),
};

/* The memory comes first: others are usually the same. */
static const struct field guest_field[] = {
	PAGES(guest.memory_pages, 'm', ZERO),
	PAGES(guest.min_pages, 'n', ZERO),
	PAGES(guest.max_pages, 'x', MEMORY),
	AT(guest.shares, 's', ZERO, UINT32_MAX),
	PAGES(guest.start_pages, 'y', ZERO),
	AT(guest.deadline_ns, 'd', ZERO, UINT64_MAX),
	PAGES(guest.operator_pages, 'o', MEMORY),
	PAGES(guest.used_pages, 'u', ZERO),
	PAGES(guest.store_pages, 'e', ZERO),
	PAGES(guest.balloon_pages, 'b', ZERO),
	PAGES(guest.target_pages, 't', ZERO),
	AT(guest.active_pages, 'a', ALL, UINT64_MAX),
	AT(guest.stalled_permille, 'v', ZERO, 1000),
	PAGES(guest.swapped_pages, 'q', ZERO),
	PAGES(guest.compressed_pages, 'z', ZERO),
	AT(guest.target_age_ns, 'j', ZERO, UINT64_MAX),
	AT(guest.over_age_ns, 'k', ZERO, UINT64_MAX),
	PAGES(guest.rate_pages, 'r', ZERO),
	PAGES(guest.withheld_pages, 'h', ZERO),
	AT(guest.in_use_pages, 'i', ZERO, UINT64_MAX),
	AT(guest.cap_pages, 'c', ALL, UINT64_MAX),
	AT(guest.wanted_pages, 'w', ZERO, UINT64_MAX),
};

static const struct field plan_field[] = {
	AT(level, 'l', ZERO, POLICY_LOW),
	AT(spare_pages, 's', ZERO, POLICY_TRACE_PAGES),
	AT(hash, 'h', ZERO, UINT64_MAX),
};

/* Flags of a guest, after an F. */
static const struct {
	char letter;
	uint16_t offset;
} flag[] = {
	{ 'd', offsetof(struct policy_guest, has_driver) },
	{ 's', offsetof(struct policy_guest, stats_fresh) },
	{ 'f', offsetof(struct policy_guest, full) },
	{ 'g', offsetof(struct policy_guest, growing) },
	{ 'b', offsetof(struct policy_guest, backoff) },
	{ 'p', offsetof(struct policy_guest, pressed) },
	{ 'w', offsetof(struct policy_guest, waiting) },
	{ 'y', offsetof(struct policy_guest, dynamic) },
	{ 'l', offsetof(struct policy_guest, limited) },
	{ 'u', offsetof(struct policy_guest, stuck) },
};

static const struct kind {
	const char *name;
	const struct field *field;
	uint32_t count;
} kinds[] = {
	[POLICY_TRACE_STEP] = { "policy: step", step_field, ARRAY_COUNT(step_field) },
	[POLICY_TRACE_GUEST] = { "policy: guest", guest_field, ARRAY_COUNT(guest_field) },
	[POLICY_TRACE_PLAN] = { "policy: plan", plan_field, ARRAY_COUNT(plan_field) },
};
/* Every field at its longest: a space, a letter, 16 digits. */
_Static_assert(16 + ARRAY_COUNT(guest_field) * 18 + 2 + ARRAY_COUNT(flag) < POLICY_TRACE_BYTES,
	"any line fits");

static uint64_t get(const struct policy_trace *t, const struct field *f)
{
	const char *at = (const char *)t + f->offset;

	return f->bytes == 4 ? *(const uint32_t *)at : *(const uint64_t *)at;
}

static void set(struct policy_trace *t, const struct field *f, uint64_t value)
{
	char *at = (char *)t + f->offset;

	if (f->bytes == 4)
		*(uint32_t *)at = (uint32_t)value;
	else
		*(uint64_t *)at = value;
}

static bool *flag_of(struct policy_guest *g, uint32_t i)
{
	return (bool *)((char *)g + flag[i].offset);
}

static uint64_t usual(const struct policy_trace *t, const struct field *f)
{
	return f->usual == ALL ? UINT64_MAX : f->usual == MEMORY ? t->guest.memory_pages : 0;
}

/* ---- out ---- */
static size_t put_text(char *line, size_t n, const char *text)
{
	while (*text)
		line[n++] = *text++;
	return n;
}

static size_t put_hex(char *line, size_t n, char letter, uint64_t value)
{
	uint32_t shift = 60;

	line[n++] = ' ';
	line[n++] = letter;
	while (shift && !(value >> shift))
		shift -= 4;
	for (;; shift -= 4) {
		line[n++] = "0123456789abcdef"[value >> shift & 15];
		if (!shift)
			return n;
	}
}

static size_t put_fields(char *line, enum policy_trace_kind kind, const struct policy_trace *t)
{
	const struct kind *k = &kinds[kind];
	size_t n = put_text(line, 0, k->name);

	for (uint32_t i = 0; i < k->count; i++)
		if (get(t, &k->field[i]) != usual(t, &k->field[i]))
			n = put_hex(line, n, k->field[i].letter, get(t, &k->field[i]));
	return n;
}

size_t policy_trace_step(char line[POLICY_TRACE_BYTES], const struct policy_pool *pool,
	uint32_t guest_count, uint64_t time_ms)
{
	struct policy_trace t = { .pool = *pool, .guest_count = guest_count, .time_ms = time_ms };
	size_t n = put_fields(line, POLICY_TRACE_STEP, &t);

	line[n] = 0;
	return n;
}

size_t policy_trace_guest(char line[POLICY_TRACE_BYTES], const struct policy_guest *g)
{
	struct policy_trace t = { .guest = *g };
	size_t n = put_fields(line, POLICY_TRACE_GUEST, &t), before = n;

	for (uint32_t i = 0; i < ARRAY_COUNT(flag); i++)
		if (*flag_of(&t.guest, i)) {
			if (n == before)
				n = put_text(line, n, " F");
			line[n++] = flag[i].letter;
		}
	line[n] = 0;
	return n;
}

static uint64_t fnv(uint64_t hash, uint64_t value)
{
	for (uint32_t i = 0; i < 8; i++, value >>= 8)
		hash = (hash ^ (value & 0xff)) * 0x100000001b3ull;
	return hash;
}

uint64_t policy_trace_hash(const struct policy_plan *plan, uint32_t guest_count)
{
	uint64_t hash = fnv(fnv(0xcbf29ce484222325ull, plan->level), plan->spare_pages);

	for (uint32_t i = 0; i < guest_count; i++) {
		const struct policy_target *t = &plan->guest[i];
		hash = fnv(fnv(hash, t->balloon_target_pages), t->entitled_pages);
		hash = fnv(fnv(hash, t->resident_limit_pages), t->rate_pages);
		hash = fnv(fnv(hash, t->withheld_pages), t->over_target * 2u + t->wait_over_target);
	}
	return hash;
}

size_t policy_trace_plan(char line[POLICY_TRACE_BYTES], const struct policy_plan *plan,
	uint32_t guest_count)
{
	struct policy_trace t = { .level = plan->level, .spare_pages = plan->spare_pages,
		.hash = policy_trace_hash(plan, guest_count) };
	size_t n = put_fields(line, POLICY_TRACE_PLAN, &t);

	line[n] = 0;
	return n;
}

/* ---- in ---- */
struct reader {
	const char *at, *end;
};

static bool skip_text(struct reader *r, const char *text)
{
	const char *at = r->at;

	for (; *text; text++, at++)
		if (at == r->end || *at != *text)
			return false;
	r->at = at;
	return true;
}

static uint32_t digit_of(char c)
{
	return c >= '0' && c <= '9' ? (uint32_t)(c - '0') : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10 : 16;
}

static bool take_hex(struct reader *r, uint64_t most, uint64_t *value)
{
	uint32_t digits = 0;

	*value = 0;
	while (r->at < r->end && digit_of(*r->at) < 16) {
		if (++digits > 16)
			return false;
		*value = *value << 4 | digit_of(*r->at++);
	}
	return digits && *value <= most;
}

static bool take_flags(struct reader *r, struct policy_guest *g)
{
	const char *first = r->at;

	while (r->at < r->end && *r->at != ' ') {
		uint32_t i = 0;
		while (i < ARRAY_COUNT(flag) && flag[i].letter != *r->at)
			i++;
		if (i == ARRAY_COUNT(flag) || *flag_of(g, i))
			return false;
		*flag_of(g, i) = true;
		r->at++;
	}
	return r->at > first;
}

#define SEEN_FLAGS 31 /* the bit of F among those of the fields */
_Static_assert(ARRAY_COUNT(guest_field) < SEEN_FLAGS, "a bit for each");

/* One field with its letter. `seen`: bits of those that were given. */
static bool take_field(struct reader *r, const struct kind *k, struct policy_trace *t, uint32_t *seen)
{
	uint64_t value;
	uint32_t i = 0;

	if (r->at == r->end)
		return false;
	char letter = *r->at++;
	if (letter == 'F' && k->field == guest_field) {
		bool again = *seen >> SEEN_FLAGS;
		*seen |= 1u << SEEN_FLAGS;
		return !again && take_flags(r, &t->guest);
	}
	while (i < k->count && k->field[i].letter != letter)
		i++;
	if (i == k->count || *seen >> i & 1 || !take_hex(r, k->field[i].most, &value))
		return false;
	*seen |= 1u << i;
	set(t, &k->field[i], value);
	return true;
}

static enum policy_trace_kind take_line(struct reader *r, enum policy_trace_kind kind,
	struct policy_trace *out)
{
	const struct kind *k = &kinds[kind];
	struct policy_trace t = { 0 };
	uint32_t seen = 0;

	while (r->at < r->end)
		if (!skip_text(r, " ") || !take_field(r, k, &t, &seen))
			return POLICY_TRACE_BAD;
	for (uint32_t i = 0; i < k->count; i++)
		if (!(seen >> i & 1))
			set(&t, &k->field[i], usual(&t, &k->field[i]));
	*out = t;
	return kind;
}

enum policy_trace_kind policy_trace_parse(const char *line, size_t bytes, struct policy_trace *out)
{
	struct reader r = { line, line + bytes };

	while (r.end > r.at && (r.end[-1] == '\n' || r.end[-1] == '\r'))
		r.end--;
	for (; r.at < r.end; r.at++)
		for (uint32_t k = POLICY_TRACE_STEP; k <= POLICY_TRACE_PLAN; k++)
			if (skip_text(&r, kinds[k].name))
				return take_line(&r, (enum policy_trace_kind)k, out);
	return POLICY_TRACE_NONE;
}
