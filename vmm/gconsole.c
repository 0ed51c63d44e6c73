/* Pure. */
#include "vmm/gconsole.h"

void gconsole_init(struct gconsole *c)
{
	c->out_head = c->out_tail = c->in_head = c->in_tail = 0;
	c->out_total = c->out_dropped = 0;
}

void gconsole_put(struct gconsole *c, const char *s, size_t n)
{
	c->out_total += n;
	for (size_t i = 0; i < n; i++) {
		if (c->out_head - c->out_tail == GCONSOLE_OUT_BYTES) {
			c->out_tail++;
			c->out_dropped++;
		}
		c->out[c->out_head++ % GCONSOLE_OUT_BYTES] = s[i];
	}
}

size_t gconsole_take(struct gconsole *c, char *buf, size_t n)
{
	size_t i = 0;

	for (; i < n && c->out_tail != c->out_head; i++)
		buf[i] = c->out[c->out_tail++ % GCONSOLE_OUT_BYTES];
	return i;
}

size_t gconsole_input(struct gconsole *c, const char *s, size_t n)
{
	size_t i = 0;

	for (; i < n && c->in_head - c->in_tail < GCONSOLE_IN_BYTES; i++)
		c->in[c->in_head++ % GCONSOLE_IN_BYTES] = s[i];
	return i;
}

size_t gconsole_read(struct gconsole *c, char *buf, size_t n)
{
	size_t i = 0;

	for (; i < n && c->in_tail != c->in_head; i++)
		buf[i] = c->in[c->in_tail++ % GCONSOLE_IN_BYTES];
	return i;
}
