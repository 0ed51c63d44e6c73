/* Pure. The software x2APIC. */
#include "arch/x86/vlapic.h"

#define LVT_TIMER 0u
#define LVT_ERROR 5u

#define TIMER_MODE_SHIFT 17u
enum timer_mode { TIMER_ONE_SHOT = 0, TIMER_PERIODIC = 1, TIMER_DEADLINE = 2, TIMER_RESERVED = 3 };

#define ESR_SEND_ILLEGAL     (1u << 5)
#define ESR_RECEIVED_ILLEGAL (1u << 6)

#define VERSION ((VLAPIC_LVT_COUNT - 1u) << 16 | 0x14u) /* integrated, no EOI-broadcast suppression */

/* What a guest may set in each LVT: vector, and delivery mode where there is one. */
static const uint32_t lvt_writable[VLAPIC_LVT_COUNT] = {
	0x000700ffu, 0x000107ffu, 0x000107ffu, 0x0001a7ffu, 0x0001a7ffu, 0x000100ffu
};

static void bit_set(uint64_t map[4], uint32_t v)
{
	map[v / 64] |= 1ull << (v % 64);
}

static void bit_clear(uint64_t map[4], uint32_t v)
{
	map[v / 64] &= ~(1ull << (v % 64));
}

static int highest(const uint64_t map[4])
{
	for (int i = 3; i >= 0; i--)
		if (map[i] != 0)
			return i * 64 + 63 - __builtin_clzll(map[i]);
	return VLAPIC_NONE;
}

void vlapic_reset(struct vlapic *a, uint32_t id)
{
	*a = (struct vlapic){ .id = id, .svr = 0xff, .timer_tsc = VLAPIC_TIMER_OFF };
	for (uint32_t i = 0; i < VLAPIC_LVT_COUNT; i++)
		a->lvt[i] = VLAPIC_LVT_MASKED;
}

static enum timer_mode timer_mode(const struct vlapic *a)
{
	return (enum timer_mode)(a->lvt[LVT_TIMER] >> TIMER_MODE_SHIFT & 3u);
}

/* Divide configuration: bits 0, 1, 3; 0 is 2, ..., 6 is 128, 7 is 1. */
static uint32_t timer_shift(const struct vlapic *a)
{
	uint32_t code = (a->divide & 3u) | (a->divide >> 1 & 4u);
	return (code + 1u) & 7u;
}

static uint64_t timer_period(const struct vlapic *a)
{
	return (uint64_t)a->initial << timer_shift(a);
}

static void timer_start(struct vlapic *a, uint64_t now)
{
	if (timer_mode(a) == TIMER_DEADLINE)
		return;
	a->timer_tsc = a->initial == 0 ? VLAPIC_TIMER_OFF : now + timer_period(a);
}

static uint64_t timer_current(const struct vlapic *a, uint64_t now)
{
	if (timer_mode(a) == TIMER_DEADLINE || a->timer_tsc == VLAPIC_TIMER_OFF ||
		a->timer_tsc <= now)
		return 0;
	/* At most the initial count: a divide value changed on the way must not show more. */
	uint64_t left = (a->timer_tsc - now) >> timer_shift(a);
	return MIN(left, (uint64_t)a->initial);
}

void vlapic_tick(struct vlapic *a, uint64_t now)
{
	if (a->timer_tsc > now)
		return;
	if (timer_mode(a) == TIMER_PERIODIC && a->initial != 0) {
		/* Ticks that were missed are one tick, as they would be in the IRR. */
		uint64_t period = timer_period(a);
		a->timer_tsc += period;
		if (a->timer_tsc <= now)
			a->timer_tsc = now + period - (now - a->timer_tsc) % period;
	} else {
		a->timer_tsc = VLAPIC_TIMER_OFF;
	}
	if (!(a->lvt[LVT_TIMER] & VLAPIC_LVT_MASKED))
		vlapic_raise(a, a->lvt[LVT_TIMER] & 0xffu);
}

uint64_t vlapic_read_deadline(const struct vlapic *a)
{
	if (timer_mode(a) != TIMER_DEADLINE || a->timer_tsc == VLAPIC_TIMER_OFF)
		return 0;
	return a->timer_tsc;
}

void vlapic_write_deadline(struct vlapic *a, uint64_t tsc)
{
	if (timer_mode(a) != TIMER_DEADLINE)
		return;
	a->timer_tsc = tsc == 0 ? VLAPIC_TIMER_OFF : tsc;
}

static void error(struct vlapic *a, uint32_t bit)
{
	a->esr_raised |= bit;
	uint32_t lvt = a->lvt[LVT_ERROR];
	if (!(lvt & VLAPIC_LVT_MASKED) && (lvt & 0xffu) >= 16)
		bit_set(a->irr, lvt & 0xffu);
}

void vlapic_raise(struct vlapic *a, uint32_t vector)
{
	if (vector < 16) {
		error(a, ESR_RECEIVED_ILLEGAL);
		return;
	}
	bit_set(a->irr, vector & 0xffu);
}

void vlapic_raise_all(struct vlapic *a, const uint64_t vectors[4])
{
	const uint64_t illegal = 0xffff;
	if (vectors[0] & illegal)
		error(a, ESR_RECEIVED_ILLEGAL);
	a->irr[0] |= vectors[0] & ~illegal;
	for (uint32_t i = 1; i < 4; i++)
		a->irr[i] |= vectors[i];
}

static uint32_t ppr(const struct vlapic *a)
{
	int in_service = highest(a->isr);
	uint32_t isr_class = in_service < 0 ? 0 : (uint32_t)in_service & 0xf0u;
	return (a->tpr & 0xf0u) >= isr_class ? a->tpr : isr_class;
}

int vlapic_pending(const struct vlapic *a)
{
	if ((a->irr[0] | a->irr[1] | a->irr[2] | a->irr[3]) == 0)
		return VLAPIC_NONE;
	int vector = highest(a->irr);
	if (!(a->svr & VLAPIC_SVR_ENABLE) || ((uint32_t)vector & 0xf0u) <= (ppr(a) & 0xf0u))
		return VLAPIC_NONE;
	return vector;
}

void vlapic_accept(struct vlapic *a, uint32_t vector)
{
	bit_clear(a->irr, vector & 0xffu);
	bit_set(a->isr, vector & 0xffu);
}

void vlapic_unaccept(struct vlapic *a, uint32_t vector)
{
	bit_clear(a->isr, vector & 0xffu);
	bit_set(a->irr, vector & 0xffu);
}

/* The logical id that an x2APIC derives: cluster, and a bit in it. */
static uint32_t logical_id(uint32_t id)
{
	return (id >> 4) << 16 | 1u << (id & 15u);
}

bool vlapic_ipi_decode(uint64_t icr, struct vlapic_ipi *out)
{
	const uint64_t level_assert = 1u << 14, level_triggered = 1u << 15;
	*out = (struct vlapic_ipi){
		.dest = (uint32_t)(icr >> 32),
		.vector = (uint8_t)icr,
		.mode = icr >> 8 & 7u,
		.shorthand = icr >> 18 & 3u,
		.logical = (icr & 1u << 11) != 0,
	};
	if (out->mode == VLAPIC_IPI_INIT)
		return (icr & (level_assert | level_triggered)) != level_triggered;
	return out->mode > VLAPIC_IPI_LOWEST || out->vector >= 16;
}

bool vlapic_ipi_is_for(const struct vlapic_ipi *ipi, uint32_t id, uint32_t sender)
{
	switch (ipi->shorthand) {
	case 1:
		return id == sender;
	case 2:
		return true;
	case 3:
		return id != sender;
	default:
		break;
	}
	if (ipi->dest == 0xffffffffu)
		return true;
	if (!ipi->logical)
		return ipi->dest == id;
	return ipi->dest >> 16 == logical_id(id) >> 16 && (ipi->dest & logical_id(id) & 0xffffu) != 0;
}

static uint64_t map_word(const uint64_t map[4], uint32_t word)
{
	return map[word / 2] >> (word % 2 * 32) & 0xffffffffu;
}

static bool lvt_index(uint32_t reg, uint32_t *index)
{
	if (reg < VLAPIC_LVT_TIMER || reg > VLAPIC_LVT_ERROR)
		return false;
	*index = reg - VLAPIC_LVT_TIMER;
	return true;
}

bool vlapic_read(const struct vlapic *a, uint32_t reg, uint64_t now, uint64_t *value)
{
	uint32_t i;
	if (lvt_index(reg, &i)) {
		*value = a->lvt[i];
		return true;
	}
	if (reg >= VLAPIC_ISR && reg < VLAPIC_ISR + 8) {
		*value = map_word(a->isr, reg - VLAPIC_ISR);
		return true;
	}
	if (reg >= VLAPIC_TMR && reg < VLAPIC_TMR + 8) {
		*value = 0; /* all are edge-triggered */
		return true;
	}
	if (reg >= VLAPIC_IRR && reg < VLAPIC_IRR + 8) {
		*value = map_word(a->irr, reg - VLAPIC_IRR);
		return true;
	}
	switch (reg) {
	case VLAPIC_ID:
		*value = a->id;
		return true;
	case VLAPIC_VERSION:
		*value = VERSION;
		return true;
	case VLAPIC_TPR:
		*value = a->tpr;
		return true;
	case VLAPIC_PPR:
		*value = ppr(a);
		return true;
	case VLAPIC_LDR:
		*value = logical_id(a->id);
		return true;
	case VLAPIC_SVR:
		*value = a->svr;
		return true;
	case VLAPIC_ESR:
		*value = a->esr;
		return true;
	case VLAPIC_ICR:
		*value = a->icr;
		return true;
	case VLAPIC_TIMER_INITIAL:
		*value = a->initial;
		return true;
	case VLAPIC_TIMER_CURRENT:
		*value = timer_current(a, now);
		return true;
	case VLAPIC_TIMER_DIVIDE:
		*value = a->divide;
		return true;
	default:
		return false; /* EOI and SELF_IPI are write-only; the rest does not exist */
	}
}

static bool write_lvt(struct vlapic *a, uint32_t i, uint64_t value)
{
	if (value & ~(uint64_t)lvt_writable[i])
		return false;
	uint32_t v = (uint32_t)value;
	if (i == LVT_TIMER) {
		uint32_t mode = v >> TIMER_MODE_SHIFT & 3u;
		if (mode == TIMER_RESERVED)
			return false;
		/* "A write to the LVT Timer Register that changes the timer mode disarms the timer." */
		if (mode != (uint32_t)timer_mode(a))
			a->timer_tsc = VLAPIC_TIMER_OFF;
	}
	if (!(a->svr & VLAPIC_SVR_ENABLE))
		v |= VLAPIC_LVT_MASKED;
	a->lvt[i] = v;
	return true;
}

static bool write_svr(struct vlapic *a, uint64_t value)
{
	if (value & ~0x3ffull)
		return false;
	a->svr = (uint32_t)value;
	if (!(a->svr & VLAPIC_SVR_ENABLE))
		for (uint32_t i = 0; i < VLAPIC_LVT_COUNT; i++)
			a->lvt[i] |= VLAPIC_LVT_MASKED;
	return true;
}

static bool write_icr(struct vlapic *a, uint64_t value)
{
	if (value & 0xfff32000ull)
		return false;
	a->icr = value & ~(1ull << 12); /* delivery status: x2APIC has none, old code writes it */
	uint32_t vector = value & 0xffu;
	uint32_t delivery = value >> 8 & 7u;
	if (delivery <= VLAPIC_IPI_LOWEST && vector < 16)
		error(a, ESR_SEND_ILLEGAL);
	return true;
}

bool vlapic_write(struct vlapic *a, uint32_t reg, uint64_t value, uint64_t now)
{
	if (reg == VLAPIC_EOI) {
		int in_service = highest(a->isr);
		if (value != 0)
			return false;
		if (in_service >= 0)
			bit_clear(a->isr, (uint32_t)in_service);
		return true;
	}
	uint32_t i;
	if (lvt_index(reg, &i))
		return write_lvt(a, i, value);
	if (reg != VLAPIC_ICR && value >> 32 != 0)
		return false;
	switch (reg) {
	case VLAPIC_TPR:
		if (value > 0xff)
			return false;
		a->tpr = (uint32_t)value;
		return true;
	case VLAPIC_SVR:
		return write_svr(a, value);
	case VLAPIC_ESR:
		if (value != 0)
			return false;
		a->esr = a->esr_raised;
		a->esr_raised = 0;
		return true;
	case VLAPIC_ICR:
		return write_icr(a, value);
	case VLAPIC_TIMER_INITIAL:
		if (timer_mode(a) == TIMER_DEADLINE)
			return true; /* "writes to the initial-count register are ignored" */
		a->initial = (uint32_t)value;
		timer_start(a, now);
		return true;
	case VLAPIC_TIMER_DIVIDE:
		if (value & ~0xbull)
			return false;
		a->divide = (uint32_t)value;
		return true;
	case VLAPIC_SELF_IPI:
		if (value > 0xff)
			return false;
		if (value < 16)
			error(a, ESR_SEND_ILLEGAL);
		else
			vlapic_raise(a, (uint32_t)value);
		return true;
	default:
		return false;
	}
}
