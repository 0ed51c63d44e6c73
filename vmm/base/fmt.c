/* Pure. */
#include "vmm/base/fmt.h"
#include "vmm/base/string.h"

struct out {
	char *buf;
	size_t bytes, at; /* `at` counts what would have been written */
};

struct spec {
	bool left, zero, plus, space, alt, upper;
	int width, precision; /* precision -1: none */
	uint32_t base;
	char length; /* 0, 'h', 'H' (hh), 'l', 'z' (64 bits: l ll z j) */
};

static void put(struct out *o, char c)
{
	if (o->at + 1 < o->bytes)
		o->buf[o->at] = c;
	o->at++;
}

static void pad(struct out *o, int n, char c)
{
	for (; n > 0; n--)
		put(o, c);
}

static void put_text(struct out *o, const struct spec *s, const char *text, size_t n)
{
	int fill = s->width - (int)n;

	if (!s->left)
		pad(o, fill, ' ');
	for (size_t i = 0; i < n; i++)
		put(o, text[i]);
	if (s->left)
		pad(o, fill, ' ');
}

static void put_number(struct out *o, const struct spec *s, uint64_t value, char sign)
{
	const char *digits = s->upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char reversed[24], prefix[4];
	int n = 0, prefixes = 0;

	if (sign)
		prefix[prefixes++] = sign;
	if (s->alt && s->base == 16 && value) {
		prefix[prefixes++] = '0';
		prefix[prefixes++] = s->upper ? 'X' : 'x';
	}
	do {
		reversed[n++] = digits[value % s->base];
		value /= s->base;
	} while (value);
	if (s->precision == 0 && n == 1 && reversed[0] == '0')
		n = 0;

	int zeroes = s->precision > n ? s->precision - n : 0;
	int fill = s->width - prefixes - zeroes - n;
	if (s->zero && !s->left && s->precision < 0 && fill > 0) {
		zeroes = fill;
		fill = 0;
	}
	if (!s->left)
		pad(o, fill, ' ');
	for (int i = 0; i < prefixes; i++)
		put(o, prefix[i]);
	pad(o, zeroes, '0');
	while (n)
		put(o, reversed[--n]);
	if (s->left)
		pad(o, fill, ' ');
}

/* A count in the format: digits, or * from the arguments. Bounded to 4095. */
static const char *take_count(const char *f, int *value, va_list *ap)
{
	int v = 0;

	if (*f == '*') {
		v = va_arg(*ap, int);
		f++;
	} else {
		for (; *f >= '0' && *f <= '9'; f++)
			v = MIN(v * 10 + (*f - '0'), 4095);
	}
	*value = MAX(MIN(v, 4095), -4095);
	return f;
}

static const char *take_spec(const char *f, struct spec *s, va_list *ap)
{
	*s = (struct spec){ .precision = -1, .base = 10 };
	for (;; f++) {
		if (*f == '-')
			s->left = true;
		else if (*f == '0')
			s->zero = true;
		else if (*f == '+')
			s->plus = true;
		else if (*f == ' ')
			s->space = true;
		else if (*f == '#')
			s->alt = true;
		else
			break;
	}
	f = take_count(f, &s->width, ap);
	if (s->width < 0) {
		s->left = true;
		s->width = -s->width;
	}
	if (*f == '.')
		f = take_count(f + 1, &s->precision, ap);
	for (; *f == 'h' || *f == 'l' || *f == 'z' || *f == 'j'; f++)
		s->length = *f == 'h' ? (s->length == 'h' ? 'H' : 'h') : 'z';
	return f;
}

static int64_t take_signed(const struct spec *s, va_list *ap)
{
	if (s->length == 'z')
		return va_arg(*ap, int64_t);
	int v = va_arg(*ap, int);
	return s->length == 'h' ? (int16_t)v : s->length == 'H' ? (int8_t)v : v;
}

static uint64_t take_unsigned(const struct spec *s, va_list *ap)
{
	if (s->length == 'z')
		return va_arg(*ap, uint64_t);
	unsigned int v = va_arg(*ap, unsigned int);
	return s->length == 'h' ? (uint16_t)v : s->length == 'H' ? (uint8_t)v : v;
}

static void convert(struct out *o, char kind, struct spec *s, va_list *ap)
{
	switch (kind) {
	case 'd':
	case 'i': {
		int64_t v = take_signed(s, ap);
		put_number(o, s, v < 0 ? -(uint64_t)v : (uint64_t)v,
			v < 0 ? '-' : s->plus ? '+' : s->space ? ' ' : 0);
		break;
	}
	case 'X':
		s->upper = true;
		/* fall through */
	case 'x':
		s->base = 16;
		put_number(o, s, take_unsigned(s, ap), 0);
		break;
	case 'o':
		s->base = 8;
		put_number(o, s, take_unsigned(s, ap), 0);
		break;
	case 'u':
		put_number(o, s, take_unsigned(s, ap), 0);
		break;
	case 'p':
		s->base = 16;
		s->alt = true;
		put_number(o, s, (uintptr_t)va_arg(*ap, void *), 0);
		break;
	case 'c': {
		char c = (char)va_arg(*ap, int);
		put_text(o, s, &c, 1);
		break;
	}
	case 's': {
		const char *text = va_arg(*ap, const char *);
		if (!text)
			text = "(null)";
		put_text(o, s, text, s->precision >= 0 ? strnlen(text, (size_t)s->precision) : strlen(text));
		break;
	}
	default: /* %% and anything unknown show themselves */
		put(o, kind);
		break;
	}
}

int fmt_vsnprintf(char *buf, size_t bytes, const char *fmt, va_list args)
{
	struct out o = { buf, bytes, 0 };
	struct spec s;
	va_list ap;

	va_copy(ap, args);
	for (const char *f = fmt; *f; f++) {
		if (*f != '%') {
			put(&o, *f);
			continue;
		}
		f = take_spec(f + 1, &s, &ap);
		if (!*f)
			break;
		convert(&o, *f, &s, &ap);
	}
	va_end(ap);
	if (bytes)
		buf[MIN(o.at, bytes - 1)] = '\0';
	return (int)o.at;
}

int fmt_snprintf(char *buf, size_t bytes, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = fmt_vsnprintf(buf, bytes, fmt, ap);
	va_end(ap);
	return n;
}
