/* Pure. */
#include "arch/x86/acpi.h"
#include "vmm/base/string.h"

/* ACPI specification, chapter "ACPI Software Programming Model": offsets in its tables. */
#define RSDP_BYTES        36u
#define RSDP_REVISION     15u
#define RSDP_RSDT         16u
#define RSDP_XSDT         24u
#define HEADER_BYTES      36u
#define HEADER_LENGTH     4u
#define FADT_DSDT         40u
#define FADT_PM1A_CONTROL 64u
#define FADT_PM1B_CONTROL 68u
#define FADT_FLAGS        112u
#define FADT_RESET_REG    116u
#define FADT_RESET_VALUE  128u
#define FADT_X_DSDT       140u
#define FADT_FLAG_RESET   (1u << 10)
#define GAS_SPACE_IO      1u
#define TABLE_BYTES_MAX   (1u << 20)
#define MADT_FIRST        44u /* its entries: type, length, ... */
#define MADT_LAPIC        0u  /* id at 3, flags at 4 */
#define MADT_LAPIC_BYTES  8u
#define MADT_X2APIC       9u  /* id at 4, flags at 8 */
#define MADT_X2APIC_BYTES 16u
#define MADT_ENABLED      1u

static uint64_t load(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	for (uint32_t i = 0; i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

/* A whole table with the wanted signature (NULL: any), its length in *bytes; else NULL. */
static const uint8_t *table(uint64_t address, const char *signature, acpi_map_fn map,
	const void *ctx, uint64_t *bytes)
{
	const uint8_t *t = address ? map(ctx, address, HEADER_BYTES) : NULL;

	if (!t || (signature && memcmp(t, signature, 4)))
		return NULL;
	*bytes = load(t + HEADER_LENGTH, 4);
	if (*bytes < HEADER_BYTES || *bytes > TABLE_BYTES_MAX)
		return NULL;
	return map(ctx, address, *bytes);
}

static const uint8_t *find(const char *signature, uint64_t rsdp, acpi_map_fn map, const void *ctx,
	uint64_t *bytes)
{
	const uint8_t *r = rsdp ? map(ctx, rsdp, RSDP_BYTES) : NULL;

	if (!r || memcmp(r, "RSD PTR ", 8))
		return NULL;
	bool wide = r[RSDP_REVISION] >= 2 && load(r + RSDP_XSDT, 8);
	uint32_t entry_bytes = wide ? 8 : 4;
	uint64_t root_bytes, at_root = wide ? load(r + RSDP_XSDT, 8) : load(r + RSDP_RSDT, 4);
	const uint8_t *root = table(at_root, wide ? "XSDT" : "RSDT", map, ctx, &root_bytes);

	if (!root)
		return NULL;
	for (uint64_t at = HEADER_BYTES; at + entry_bytes <= root_bytes; at += entry_bytes) {
		const uint8_t *t = table(load(root + at, entry_bytes), signature, map, ctx, bytes);

		if (t)
			return t;
	}
	return NULL;
}

/* One small integer of a package. Returns the bytes read, 0: it is something else. */
static uint32_t aml_integer(const uint8_t *p, uint64_t room, uint8_t *out)
{
	if (!room)
		return 0;
	switch (p[0]) {
	case 0x00: /* ZeroOp */
	case 0x01: /* OneOp */
		*out = p[0];
		return 1;
	case 0x0a: /* BytePrefix */
	case 0x0b: /* WordPrefix */
	case 0x0c: { /* DWordPrefix */
		uint32_t bytes = 1u << (p[0] - 0x0a);

		if (room <= bytes)
			return 0;
		*out = p[1];
		return 1 + bytes;
	}
	default:
		return 0;
	}
}

status_t acpi_find_s5(const uint8_t *aml, uint64_t bytes, uint8_t *type_a, uint8_t *type_b)
{
	/* NameOp, perhaps a root prefix, "_S5_", PackageOp, PkgLength (1 to 4 bytes), count. */
	for (uint64_t i = 1; i + 12 <= bytes; i++) {
		if (memcmp(aml + i, "_S5_", 4) || aml[i + 4] != 0x12)
			continue;
		if (aml[i - 1] != 0x08 && !(i >= 2 && aml[i - 1] == '\\' && aml[i - 2] == 0x08))
			continue;
		uint64_t at = i + 5 + 1 + (aml[i + 5] >> 6) + 1;
		uint32_t n = at < bytes ? aml_integer(aml + at, bytes - at, type_a) : 0;

		if (!n || at + n > bytes)
			continue;
		if (!aml_integer(aml + at + n, bytes - at - n, type_b))
			*type_b = 0;
		return OK;
	}
	return ERR_NOENT;
}

static void read_reset(const uint8_t *fadt, uint64_t bytes, struct acpi_power *out)
{
	if (bytes <= FADT_RESET_VALUE || !(load(fadt + FADT_FLAGS, 4) & FADT_FLAG_RESET) ||
		fadt[FADT_RESET_REG] != GAS_SPACE_IO)
		return;
	out->reset_port = (uint16_t)load(fadt + FADT_RESET_REG + 4, 8);
	out->reset_value = fadt[FADT_RESET_VALUE];
}

status_t acpi_power_find(uint64_t rsdp, acpi_map_fn map, const void *ctx, struct acpi_power *out)
{
	uint64_t bytes = 0, dsdt_bytes = 0;
	const uint8_t *fadt = find("FACP", rsdp, map, ctx, &bytes);

	*out = (struct acpi_power){ 0 };
	if (!fadt || bytes < FADT_PM1B_CONTROL + 4)
		return ERR_NOENT;
	read_reset(fadt, bytes, out);
	out->pm1a_control = (uint16_t)load(fadt + FADT_PM1A_CONTROL, 4);
	out->pm1b_control = (uint16_t)load(fadt + FADT_PM1B_CONTROL, 4);
	uint64_t at = bytes >= FADT_X_DSDT + 8 ? load(fadt + FADT_X_DSDT, 8) : 0;

	if (!at)
		at = load(fadt + FADT_DSDT, 4);
	const uint8_t *dsdt = table(at, "DSDT", map, ctx, &dsdt_bytes);

	if (!dsdt || !out->pm1a_control ||
		acpi_find_s5(dsdt + HEADER_BYTES, dsdt_bytes - HEADER_BYTES, &out->s5_type_a,
			&out->s5_type_b))
		return ERR_NOENT;
	out->can_power_off = true;
	return OK;
}

/* One entry of the MADT: true, and the id, if it is a processor that can be used. */
static bool madt_cpu(const uint8_t *e, uint64_t bytes, uint32_t *id)
{
	uint64_t flags = 0;

	if (e[0] == MADT_LAPIC && bytes >= MADT_LAPIC_BYTES) {
		*id = e[3];
		flags = load(e + 4, 4);
	} else if (e[0] == MADT_X2APIC && bytes >= MADT_X2APIC_BYTES) {
		*id = (uint32_t)load(e + 4, 4);
		flags = load(e + 8, 4);
	}
	return flags & MADT_ENABLED;
}

/* Firmware may name a processor in both forms. */
static bool known(const uint32_t *ids, uint32_t count, uint32_t id)
{
	for (uint32_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

status_t acpi_cpus_find(uint64_t rsdp, acpi_map_fn map, const void *ctx, uint32_t *ids, uint32_t max,
	uint32_t *count)
{
	uint64_t bytes = 0;
	const uint8_t *madt = find("APIC", rsdp, map, ctx, &bytes);

	*count = 0;
	for (uint64_t at = MADT_FIRST; madt && at + 2 <= bytes && *count < max; at += madt[at + 1]) {
		uint64_t length = madt[at + 1];
		uint32_t id;

		if (length < 2 || length > bytes - at)
			break;
		if (madt_cpu(madt + at, length, &id) && !known(ids, *count, id))
			ids[(*count)++] = id;
	}
	return *count ? OK : ERR_NOENT;
}
