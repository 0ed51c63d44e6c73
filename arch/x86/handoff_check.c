/* Pure. */
#include "arch/x86/handoff_check.h"
#include "vmm/base/fmt.h"

#define PF_EXEC  1u
#define PF_WRITE 2u

static status_t check_segments(const struct handoff *h, char *why)
{
	if (!h->segment_count || h->segment_count > HANDOFF_SEGMENT_MAX) {
		fmt_snprintf(why, HANDOFF_CHECK_BYTES,
			"it names %u image segments; 1 to %u are possible", h->segment_count,
			HANDOFF_SEGMENT_MAX);
		return ERR_FORMAT;
	}
	for (uint32_t i = 0; i < h->segment_count; i++) {
		const struct handoff_segment *s = &h->segments[i];

		if ((s->va | s->pa | s->bytes) & PAGE_OFFSET_MASK || s->va < HANDOFF_HV_BASE) {
			fmt_snprintf(why, HANDOFF_CHECK_BYTES,
				"image segment %u is not page aligned or below the image's base",
				i);
			return ERR_FORMAT;
		}
		if ((s->flags & (PF_EXEC | PF_WRITE)) == (PF_EXEC | PF_WRITE)) {
			fmt_snprintf(why, HANDOFF_CHECK_BYTES,
				"image segment %u is both writable and executable", i);
			return ERR_FORMAT;
		}
	}
	return OK;
}

status_t handoff_check(const struct handoff *h, char why[HANDOFF_CHECK_BYTES])
{
	if (h->magic != HANDOFF_MAGIC) {
		fmt_snprintf(why, HANDOFF_CHECK_BYTES,
			"its magic is %016lx, not %016llx: not started by Aerostat's loader",
			h->magic, HANDOFF_MAGIC);
		return ERR_FORMAT;
	}
	if (h->version != HANDOFF_VERSION || h->bytes != sizeof(*h)) {
		fmt_snprintf(why, HANDOFF_CHECK_BYTES,
			"the loader speaks version %u (%u bytes), this image version %u "
			"(%zu bytes): install both from one build",
			h->version, h->bytes, HANDOFF_VERSION, sizeof(*h));
		return ERR_FORMAT;
	}
	if (h->module_count > HANDOFF_MODULE_MAX) {
		fmt_snprintf(why, HANDOFF_CHECK_BYTES,
			"it names %u modules; at most %u are possible", h->module_count,
			HANDOFF_MODULE_MAX);
		return ERR_FORMAT;
	}
	return check_segments(h, why);
}
