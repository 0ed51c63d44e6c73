/* Pure. Text: formatting, numbers and sizes. */
#include "guest-drivers/kernel/format.h"

struct out {
	char *buf;
	size_t used, room;
};

static void emit(struct out *o, char c)
{
	if (o->used < o->room)
		o->buf[o->used++] = c;
}

static void emit_padded(struct out *o, const char *s, size_t n, unsigned int width, bool left, char pad)
{
	size_t fill = width > n ? width - n : 0;

	if (pad == '0' && n && s[0] == '-') {
		emit(o, '-');
		s++;
		n--;
	}
	for (size_t i = 0; !left && i < fill; i++)
		emit(o, pad);
	for (size_t i = 0; i < n; i++)
		emit(o, s[i]);
	for (size_t i = 0; left && i < fill; i++)
		emit(o, ' ');
}

static size_t digits(char buf[24], uint64_t v, unsigned int base, bool negative)
{
	size_t at = 24;

	do {
		buf[--at] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (negative)
		buf[--at] = '-';
	for (size_t i = at; i < 24; i++)
		buf[i - at] = buf[i];
	return 24 - at;
}

size_t format_text(char *buf, size_t bytes, const char *fmt, va_list ap)
{
	struct out o = { buf, 0, bytes };

	for (; *fmt; fmt++) {
		if (*fmt != '%') {
			emit(&o, *fmt);
			continue;
		}
		bool left = false, wide = false;
		char pad = ' ';
		unsigned int width = 0;
		char number[24];

		for (fmt++; *fmt == '-' || *fmt == '0'; fmt++) {
			if (*fmt == '-')
				left = true;
			else
				pad = '0';
		}
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned int)(*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			wide = true;
		if (*fmt == 's') {
			const char *s = va_arg(ap, const char *);
			size_t n = 0;

			while (s[n])
				n++;
			emit_padded(&o, s, n, width, left, ' ');
		} else if (*fmt == 'c') {
			emit(&o, (char)va_arg(ap, int));
		} else if (*fmt == 'd') {
			int64_t v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);
			uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

			emit_padded(&o, number, digits(number, u, 10, v < 0), width, left, pad);
		} else if (*fmt == 'u' || *fmt == 'x') {
			uint64_t v = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned int);

			emit_padded(&o, number, digits(number, v, *fmt == 'x' ? 16 : 10, false), width,
				    left, pad);
		} else if (*fmt) {
			emit(&o, *fmt);
		} else {
			break;
		}
	}
	return o.used;
}

/* Reads digits up to the first other character; false on none or overflow. */
static bool scan(const char **text, uint64_t *out)
{
	const char *s = *text;
	unsigned int base = 10;
	uint64_t v = 0;
	bool any = false;

	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	for (;; s++) {
		unsigned int d;

		if (*s >= '0' && *s <= '9')
			d = (unsigned int)(*s - '0');
		else if (base == 16 && *s >= 'a' && *s <= 'f')
			d = (unsigned int)(*s - 'a') + 10;
		else
			break;
		if (v > (UINT64_MAX - d) / base)
			return false;
		v = v * base + d;
		any = true;
	}
	*text = s;
	*out = v;
	return any;
}

bool text_number(const char *text, uint64_t *out)
{
	return scan(&text, out) && *text == '\0';
}

bool text_size(const char *text, uint64_t *bytes)
{
	uint64_t v;
	unsigned int shift = 0;

	if (!scan(&text, &v))
		return false;
	switch (*text) {
	case 'b': case 'B': shift = 0; text++; break;
	case 'k': case 'K': shift = 10; text++; break;
	case 'm': case 'M': shift = 20; text++; break;
	case 'g': case 'G': shift = 30; text++; break;
	}
	if (*text || v > (1ull << 40) >> shift)
		return false;
	*bytes = v << shift;
	return true;
}
