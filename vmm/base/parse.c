/* Pure. */
#include "vmm/base/parse.h"
#include "vmm/base/fmt.h"
#include "vmm/base/string.h"

#define SIZE_MAX_BYTES (1ull << 52)

static int digit_of(char c, uint64_t base)
{
	int d = c >= '0' && c <= '9' ? c - '0'
		: c >= 'a' && c <= 'f' ? c - 'a' + 10
		: c >= 'A' && c <= 'F' ? c - 'A' + 10
				       : 99;
	return d < (int)base ? d : -1;
}

/* Takes digits from *text; ERR_FORMAT if there are none, ERR_RANGE above max. */
static status_t take_digits(const char **text, uint64_t base, uint64_t max, uint64_t *out)
{
	const char *s = *text;
	uint64_t value = 0;
	bool over = false;

	if (digit_of(*s, base) < 0)
		return ERR_FORMAT;
	for (; digit_of(*s, base) >= 0; s++) {
		uint64_t digit = (uint64_t)digit_of(*s, base);
		if (value > (max - MIN(digit, max)) / base || digit > max)
			over = true;
		else
			value = value * base + digit;
	}
	*text = s;
	*out = value;
	return over ? ERR_RANGE : OK;
}

static uint64_t unit_of(char c)
{
	switch (c) {
	case 'b':
	case 'B':
		return 1;
	case 'k':
	case 'K':
		return KIB(1);
	case 'm':
	case 'M':
		return MIB(1);
	case 'g':
	case 'G':
		return GIB(1);
	case 't':
	case 'T':
		return GIB(1024);
	default:
		return 0;
	}
}

status_t parse_size(const char *text, uint64_t bare_unit, uint64_t *bytes)
{
	uint64_t value, unit = bare_unit;
	status_t s = take_digits(&text, 10, SIZE_MAX_BYTES, &value);

	if (s == ERR_FORMAT)
		return s;
	if (*text) {
		unit = unit_of(*text++);
		if (!unit || *text)
			return ERR_FORMAT;
	}
	if (s != OK)
		return s;
	if (unit && value > SIZE_MAX_BYTES / unit)
		return ERR_RANGE;
	*bytes = value * unit;
	return OK;
}

status_t parse_u64(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t value, base = 10;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		base = 16;
		text += 2;
	}
	status_t s = take_digits(&text, base, max, &value);
	if (s == ERR_FORMAT || *text)
		return ERR_FORMAT;
	if (s == OK)
		*out = value;
	return s;
}

char *format_size(char *buf, size_t n, uint64_t bytes)
{
	static const char units[] = { 'B', 'K', 'M', 'G', 'T' };
	uint32_t u = 0;
	uint64_t scale = 1;

	while (u + 1 < ARRAY_COUNT(units) && bytes / scale >= 1024) {
		scale <<= 10;
		u++;
	}
	uint64_t tenths = u ? (bytes % scale * 10 + scale / 2) / scale : 0;
	uint64_t whole = bytes / scale + tenths / 10;
	tenths %= 10;
	if (tenths)
		fmt_snprintf(buf, n, "%lu.%lu%c", whole, tenths, units[u]);
	else
		fmt_snprintf(buf, n, "%lu%c", whole, units[u]);
	return buf;
}

/* Digits from *text on, which then stands behind them. */
static status_t take_cpu(const char **text, uint32_t *cpu)
{
	const char *c = *text;
	uint32_t n = 0;

	if (*c < '0' || *c > '9')
		return ERR_FORMAT;
	for (; *c >= '0' && *c <= '9'; c++)
		n = MIN(n * 10 + (uint32_t)(*c - '0'), 1000u);
	*text = c;
	*cpu = n;
	return n < 64 ? OK : ERR_RANGE;
}

status_t parse_cpus(const char *text, uint64_t *mask)
{
	uint64_t all = 0;

	for (;;) {
		uint32_t first, last;
		status_t s = take_cpu(&text, &first);

		last = first;
		if (s == OK && *text == '-') {
			text++;
			s = take_cpu(&text, &last);
		}
		if (s != OK)
			return s;
		if (last < first)
			return ERR_RANGE;
		all |= UINT64_MAX >> (63 - (last - first)) << first;
		if (*text == '\0')
			break;
		if (*text++ != ',')
			return ERR_FORMAT;
	}
	*mask = all;
	return OK;
}

char *format_cpus(char *buf, size_t n, uint64_t mask, uint32_t count)
{
	uint64_t all = UINT64_MAX >> (64 - count);
	size_t at = 0;

	mask &= all;
	if (mask == all || !mask) {
		fmt_snprintf(buf, n, "%s", mask ? "all" : "none");
		return buf;
	}
	for (uint32_t first = 0; first < count; first++) {
		uint32_t last = first;
		char piece[8];

		if (!(mask >> first & 1))
			continue;
		while (last + 1 < count && (mask >> (last + 1) & 1))
			last++;
		fmt_snprintf(piece, sizeof(piece), last > first ? "%u-%u" : "%u", first, last);
		size_t bytes = strlen(piece) + (at != 0);
		bool fits = at + bytes + 2 < n;
		fmt_snprintf(buf + at, n - at, "%s%s", at && fits ? "," : "", fits ? piece : "..");
		if (!fits)
			break;
		at += bytes;
		first = last;
	}
	return buf;
}
