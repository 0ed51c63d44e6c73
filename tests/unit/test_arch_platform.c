/* Clock arithmetic, IDENTIFY, words for errors, ACPI's power-off. */
#include "tests/unit/unit.h"

#include "arch/x86/acpi.h"
#include "arch/x86/ata_identify.h"
#include "arch/x86/clock_math.h"
#include "arch/x86/trap_text.h"

static void clock_rates(void **state)
{
	(void)state;
	/* 5 ms at 100 MHz. */
	assert_true(clock_close(clock_khz_from_pit(500000, 5966), 100000, 1));
	assert_true(clock_close(clock_khz_from_pit(13000000, 5966), 2600000, 1));
	assert_int_equal(clock_khz_from_pit(1, 0), 0);
	assert_int_equal(clock_khz_from_pit(UINT64_MAX, 1), 0);
	assert_int_equal(clock_khz_from_cpuid15(2, 216, 24000000, 0), 2592000);
	assert_int_equal(clock_khz_from_cpuid15(2, 292, 0, 3500), 3500000);
	assert_int_equal(clock_khz_from_cpuid15(0, 5, 24000000, 3500), 0);
	assert_int_equal(clock_khz_from_cpuid15(1, UINT32_MAX, UINT32_MAX, 0) > 0, 1);
	assert_true(clock_close(3500000, 3490000, 10));
	assert_false(clock_close(3500000, 100000, 10));
	assert_false(clock_close(99, 100000, 10));
}

static void clock_to_ns(void **state)
{
	(void)state;
	assert_int_equal(clock_scale(100, clock_ns_scale(100000)), 1000);
	/* Ten years at 3 GHz: no overflow, and less than a second off. */
	uint64_t seconds = 10ull * 365 * 86400;
	uint64_t ns = clock_scale(seconds * 3000000000ull, clock_ns_scale(3000000));
	uint64_t want = seconds * 1000000000ull;

	assert_true(ns <= want && want - ns < 1000000000ull);
}

static void identify(void **state)
{
	(void)state;
	uint16_t w[ATA_IDENTIFY_WORDS] = { 0 };
	struct ata_geometry g;

	memset(&w[27], 0x20, 40);
	w[27] = 'Q' << 8 | 'E';
	w[28] = 'M' << 8 | 'U';
	w[47] = 0x8010;
	w[60] = 0x0000;
	w[61] = 0x0002;
	ata_identify_decode(w, &g);
	assert_int_equal(g.sector_count, 0); /* no LBA */
	w[49] = 1 << 9;
	ata_identify_decode(w, &g);
	assert_int_equal(g.sector_count, 0x20000);
	assert_string_equal(g.model, "QEMU");
	assert_int_equal(g.block_sectors, 16);
	assert_false(g.lba48);
	w[83] = 0x4400;
	w[102] = 1;
	ata_identify_decode(w, &g);
	assert_true(g.lba48);
	assert_int_equal(g.sector_count, 1ull << 32);
	w[83] = 0xffff; /* what an empty bus reads */
	ata_identify_decode(w, &g);
	assert_false(g.lba48);
	memset(w, 0xff, sizeof(w));
	ata_identify_decode(w, &g);
	assert_int_equal(g.model[0], 0);
	assert_true(g.sector_count <= 1ull << 28);
}

static void ata_errors(void **state)
{
	(void)state;
	char text[ATA_ERROR_TEXT_BYTES];

	ata_error_text(0x51, 0x44, text);
	assert_string_equal(text, "uncorrectable data, aborted");
	ata_error_text(0x51, 0x10, text);
	assert_string_equal(text, "no such sector");
	ata_error_text(0xd0, 0xff, text);
	assert_string_equal(text, "busy for too long");
	ata_error_text(0x50, 0, text);
	assert_string_equal(text, "no data offered");
	ata_error_text(0x7f, 0xff, text);
	assert_true(strlen(text) < sizeof(text));
}

static void trap_words(void **state)
{
	(void)state;
	char text[TRAP_PF_TEXT_BYTES];

	for (uint64_t v = 0; v < 300; v++)
		assert_true(strlen(trap_name(v)) > 2);
	assert_string_equal(trap_name(14), "page fault");
	assert_string_equal(trap_name(15), "reserved exception");
	trap_page_fault_text(2, text);
	assert_string_equal(text, "write to a page that is not present");
	trap_page_fault_text(0x11, text);
	assert_string_equal(text, "fetch from a page whose rights forbid it");
	trap_page_fault_text(0x0c, text);
	assert_string_equal(text, "user-mode read of a page with a reserved bit set");
}

static void calls(void **state)
{
	(void)state;
	const uint8_t direct[] = { 0x90, 0xe8, 1, 2, 3, 4 };
	const uint8_t indirect[] = { 0xff, 0xd0, 0xff, 0x54, 0x24, 0x08, 0xff, 0xe0 };

	assert_true(trap_follows_call(direct, 6));
	assert_false(trap_follows_call(direct, 5));
	assert_true(trap_follows_call(indirect, 2));
	assert_true(trap_follows_call(indirect, 6));
	assert_false(trap_follows_call(direct, 0));
	assert_false(trap_follows_call(direct, 1));
}

/* A small machine's tables in one array, at physical address 0x1000. */
#define ACPI_AT 0x1000u
static uint8_t tables[4096];

static const void *map_table(const void *ctx, uint64_t address, uint64_t bytes)
{
	(void)ctx;
	if (address < ACPI_AT || address - ACPI_AT > sizeof(tables) ||
		bytes > sizeof(tables) - (address - ACPI_AT))
		return NULL;
	return tables + (address - ACPI_AT);
}

static void put32(uint32_t at, uint32_t v)
{
	memcpy(tables + at, &v, 4);
}

static void put_table(uint32_t at, const char *signature, uint32_t bytes)
{
	memcpy(tables + at, signature, 4);
	put32(at + 4, bytes);
}

static void build_tables(void)
{
	static const uint8_t aml[] = { 0x10, 0x05, 0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x04, 0x0a,
		0x05, 0x00, 0x00, 0x00 };

	memset(tables, 0, sizeof(tables));
	memcpy(tables, "RSD PTR ", 8);
	put32(16, ACPI_AT + 0x100);
	put_table(0x100, "RSDT", 36 + 8);
	put32(0x100 + 36, ACPI_AT + 0x400);
	put32(0x100 + 40, ACPI_AT + 0x200);
	put_table(0x400, "HPET", 56);
	put_table(0x200, "FACP", 132);
	put32(0x200 + 40, ACPI_AT + 0x300);
	put32(0x200 + 64, 0xb004);
	put32(0x200 + 112, 1 << 10);
	tables[0x200 + 116] = 1;
	put32(0x200 + 120, 0xcf9);
	tables[0x200 + 128] = 6;
	put_table(0x300, "DSDT", 36 + sizeof(aml));
	memcpy(tables + 0x300 + 36, aml, sizeof(aml));
}

static void acpi_good(void **state)
{
	(void)state;
	struct acpi_power p;

	build_tables();
	assert_int_equal(acpi_power_find(ACPI_AT, map_table, NULL, &p), OK);
	assert_true(p.can_power_off);
	assert_int_equal(p.pm1a_control, 0xb004);
	assert_int_equal(p.pm1b_control, 0);
	assert_int_equal(p.s5_type_a, 5);
	assert_int_equal(p.s5_type_b, 0);
	assert_int_equal(p.reset_port, 0xcf9);
	assert_int_equal(p.reset_value, 6);
	/* The same by an XSDT. */
	tables[15] = 2;
	put32(24, ACPI_AT + 0x500);
	put_table(0x500, "XSDT", 36 + 8);
	put32(0x500 + 36, ACPI_AT + 0x200);
	put32(16, 0);
	assert_int_equal(acpi_power_find(ACPI_AT, map_table, NULL, &p), OK);
}

static void acpi_bad(void **state)
{
	(void)state;
	struct acpi_power p;

	build_tables();
	assert_int_equal(acpi_power_find(0, map_table, NULL, &p), ERR_NOENT);
	assert_int_equal(acpi_power_find(ACPI_AT + 8, map_table, NULL, &p), ERR_NOENT);
	put32(0x304, 0xffffff); /* a DSDT that runs out of its memory */
	assert_int_equal(acpi_power_find(ACPI_AT, map_table, NULL, &p), ERR_NOENT);
	assert_false(p.can_power_off);
	build_tables();
	tables[0x300 + 36 + 3] = 'X';
	assert_int_equal(acpi_power_find(ACPI_AT, map_table, NULL, &p), ERR_NOENT);
	build_tables();
	put32(0x104, 3); /* an RSDT shorter than its header */
	assert_int_equal(acpi_power_find(ACPI_AT, map_table, NULL, &p), ERR_NOENT);
}

/* Local APICs, one of them off, one twice, one by its x2APIC entry; other entries between. */
static void acpi_cpus(void **state)
{
	(void)state;
	static const uint8_t entries[] = {
		0, 8, 0, 7, 1, 0, 0, 0,
		1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0,
		0, 8, 1, 3, 0, 0, 0, 0, /* off */
		0, 8, 2, 4, 1, 0, 0, 0,
		9, 16, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, /* 4 again */
		9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, /* 256 */
	};
	uint32_t ids[4] = { 0 }, n;

	build_tables();
	assert_int_equal(acpi_cpus_find(ACPI_AT, map_table, NULL, ids, 4, &n), ERR_NOENT);
	assert_int_equal(n, 0);
	put_table(0x400, "APIC", 44 + sizeof(entries));
	memcpy(tables + 0x400 + 44, entries, sizeof(entries));
	assert_int_equal(acpi_cpus_find(ACPI_AT, map_table, NULL, ids, 4, &n), OK);
	assert_int_equal(n, 3);
	assert_int_equal(ids[0], 7);
	assert_int_equal(ids[1], 4);
	assert_int_equal(ids[2], 256);
	assert_int_equal(acpi_cpus_find(ACPI_AT, map_table, NULL, ids, 1, &n), OK);
	assert_int_equal(n, 1); /* as many as there is room for */
	tables[0x400 + 44 + 1] = 1; /* an entry shorter than its head: what follows is not read */
	assert_int_equal(acpi_cpus_find(ACPI_AT, map_table, NULL, ids, 4, &n), ERR_NOENT);
	tables[0x400 + 44 + 1] = 255; /* or longer than the table */
	assert_int_equal(acpi_cpus_find(ACPI_AT, map_table, NULL, ids, 4, &n), ERR_NOENT);
	for (uint32_t bytes = 36; bytes <= 44 + sizeof(entries); bytes++) {
		put32(0x404, bytes); /* cut anywhere */
		status_t got = acpi_cpus_find(ACPI_AT, map_table, NULL, ids, 4, &n);

		assert_true(n <= 3 && (got == OK) == (n != 0));
	}
}

/* Tables of noise: nothing is read that map_table() did not hand out (the sanitizer watches). */
static void acpi_noise(void **state)
{
	(void)state;
	uint64_t seed = 3;
	struct acpi_power p;

	for (int i = 0; i < 20000; i++) {
		build_tables();
		for (int j = 0; j < 4; j++)
			tables[test_random(&seed) % 0x340] = (uint8_t)test_random(&seed);
		status_t s = acpi_power_find(ACPI_AT, map_table, NULL, &p);

		assert_true(s == OK ? p.can_power_off : !p.can_power_off);
	}
	for (int i = 0; i < 20000; i++) {
		uint64_t n = test_random(&seed) % 24;
		uint8_t *aml = malloc(n ? n : 1), a = 0, b = 0;

		for (uint64_t j = 0; j < n; j++)
			aml[j] = (uint8_t)test_random(&seed);
		if (n >= 7)
			memcpy(aml + 1, "_S5_\x12", 5);
		if (n)
			aml[0] = 0x08;
		assert_true(acpi_find_s5(aml, n, &a, &b) == OK || n < 14 || !a);
		free(aml);
	}
}

int main(void)
{
	const struct CMUnitTest tests_[] = {
		cmocka_unit_test(clock_rates), cmocka_unit_test(clock_to_ns),
		cmocka_unit_test(identify), cmocka_unit_test(ata_errors),
		cmocka_unit_test(trap_words), cmocka_unit_test(calls),
		cmocka_unit_test(acpi_good), cmocka_unit_test(acpi_bad),
		cmocka_unit_test(acpi_cpus), cmocka_unit_test(acpi_noise),
	};

	return cmocka_run_group_tests(tests_, NULL, NULL);
}
