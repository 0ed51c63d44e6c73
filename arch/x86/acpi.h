/*
 * Pure. The little of ACPI that is needed: for turning the machine off and on the FADT's ports and the
 * \_S5 package of the DSDT, found by its name without an AML interpreter; the MADT's processors.
 */
#pragma once

#include "vmm/base/status.h"

struct acpi_power {
	uint16_t pm1a_control, pm1b_control; /* ports; 0: none */
	uint8_t s5_type_a, s5_type_b;
	bool can_power_off;
	uint16_t reset_port; /* 0: none */
	uint8_t reset_value;
};

/* Returns `bytes` of readable memory at physical `address`, or NULL if any of it is not ACPI's. */
typedef const void *(*acpi_map_fn)(const void *ctx, uint64_t address, uint64_t bytes);

/* ERR_NOENT: no tables, or none that help; *out then says so too. */
status_t acpi_power_find(uint64_t rsdp, acpi_map_fn map, const void *ctx, struct acpi_power *out)
	MUST_CHECK;
/*
 * Local APIC ids of the processors that the MADT calls usable, in its order; at most `max`.
 * ERR_NOENT: no MADT, or none in it.
 */
status_t acpi_cpus_find(uint64_t rsdp, acpi_map_fn map, const void *ctx, uint32_t *ids, uint32_t max,
	uint32_t *count) MUST_CHECK;
/* \_S5 in AML: ERR_NOENT if it is not there in the usual form. */
status_t acpi_find_s5(const uint8_t *aml, uint64_t bytes, uint8_t *type_a, uint8_t *type_b)
	MUST_CHECK;
