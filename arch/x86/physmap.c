/* Pure. */
#include "arch/x86/physmap.h"

bool physmap_is_ram(uint32_t type)
{
	return type == HANDOFF_MEM_USABLE || type == HANDOFF_MEM_LOADER ||
		type == HANDOFF_MEM_HV_IMAGE || type == HANDOFF_MEM_MODULE ||
		type == HANDOFF_MEM_ACPI;
}

static void merge(struct physmap *m)
{
	uint32_t out = 0;

	for (uint32_t i = 0; i < m->count; i++) {
		struct handoff_mem *last = out ? &m->run[out - 1] : NULL;

		if (last && last->type == m->run[i].type &&
			last->base + last->bytes == m->run[i].base)
			last->bytes += m->run[i].bytes;
		else if (m->run[i].bytes)
			m->run[out++] = m->run[i];
	}
	m->count = out;
}

status_t physmap_load(struct physmap *m, const struct handoff_mem *from, uint32_t count,
	const char **why)
{
	uint64_t end = 0;

	*why = "has more runs than there is room for";
	if (count > PHYSMAP_MAX)
		return ERR_LIMIT;
	m->count = 0;
	for (uint32_t i = 0; i < count; i++) {
		*why = "has a run that is not page aligned";
		if ((from[i].base | from[i].bytes) & PAGE_OFFSET_MASK)
			return ERR_FORMAT;
		*why = "is not sorted or overlaps itself";
		if (from[i].base < end || from[i].base + from[i].bytes < from[i].base)
			return ERR_FORMAT;
		end = from[i].base + from[i].bytes;
		m->run[m->count++] = from[i];
	}
	merge(m);
	*why = "names no usable memory";
	return physmap_ram_top(m) ? OK : ERR_FORMAT;
}

uint64_t physmap_ram_top(const struct physmap *m)
{
	uint64_t top = 0;

	for (uint32_t i = 0; i < m->count; i++)
		if (physmap_is_ram(m->run[i].type))
			top = m->run[i].base + m->run[i].bytes;
	return top;
}

uint64_t physmap_ram_bytes(const struct physmap *m)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < m->count; i++)
		if (physmap_is_ram(m->run[i].type) && m->run[i].type != HANDOFF_MEM_ACPI)
			bytes += m->run[i].bytes;
	return bytes;
}

/* Where `bytes` at the top of `r` within [low, high) would start; UINT64_MAX: no room. */
static uint64_t top_fit(const struct handoff_mem *r, uint64_t bytes, uint64_t low, uint64_t high)
{
	uint64_t start = MAX(r->base, low), end = MIN(r->base + r->bytes, high);

	return r->type == HANDOFF_MEM_USABLE && end > start && end - start >= bytes ? end - bytes
										   : UINT64_MAX;
}

/* Splits run `i`: [base, base + bytes) inside it gets `type`. There is room for two more runs. */
static void commit_split(struct physmap *m, uint32_t i, uint64_t base, uint64_t bytes,
	uint32_t type)
{
	struct handoff_mem whole = m->run[i];
	struct handoff_mem part[3] = {
		{ whole.base, base - whole.base, whole.type, 0 },
		{ base, bytes, type, 0 },
		{ base + bytes, whole.base + whole.bytes - base - bytes, whole.type, 0 },
	};

	for (uint32_t j = m->count; j-- > i + 1;)
		m->run[j + 2] = m->run[j];
	m->count += 2;
	for (uint32_t j = 0; j < 3; j++)
		m->run[i + j] = part[j];
	merge(m);
}

status_t physmap_take(struct physmap *m, uint64_t bytes, uint64_t low, uint64_t high, hpa_t *out)
{
	uint32_t best = m->count;

	for (uint32_t i = 0; i < m->count; i++) {
		if (top_fit(&m->run[i], bytes, low, high) == UINT64_MAX)
			continue;
		if (best == m->count || m->run[i].bytes < m->run[best].bytes)
			best = i;
	}
	if (best == m->count || m->count + 2 > PHYSMAP_MAX)
		return ERR_NOMEM;
	*out = HPA(top_fit(&m->run[best], bytes, low, high));
	commit_split(m, best, out->v, bytes, HANDOFF_MEM_HV_IMAGE);
	return OK;
}

void physmap_give(struct physmap *m, hpa_t base, uint64_t bytes)
{
	const struct handoff_mem *run = physmap_find(m, base);

	if (!run || run->type != HANDOFF_MEM_HV_IMAGE || bytes > run->base + run->bytes - base.v ||
		m->count + 2 > PHYSMAP_MAX)
		return;
	commit_split(m, (uint32_t)(run - m->run), base.v, bytes, HANDOFF_MEM_USABLE);
}

void physmap_retype(struct physmap *m, uint32_t from, uint32_t to)
{
	for (uint32_t i = 0; i < m->count; i++)
		if (m->run[i].type == from)
			m->run[i].type = to;
	merge(m);
}

const struct handoff_mem *physmap_find(const struct physmap *m, hpa_t address)
{
	for (uint32_t i = 0; i < m->count; i++)
		if (address.v - m->run[i].base < m->run[i].bytes)
			return &m->run[i];
	return NULL;
}
