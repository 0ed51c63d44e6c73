/* The decoder of intercepted instructions: the assembler is the oracle. */
#include <stdlib.h>
#include <string.h>

#include "arch/x86/guest_walk.h"
#include "arch/x86/svm/decode.h"
#include "tests/unit/unit.h"

/* Encodings between two labels, so that the assembler says how long each is. */
#define CODE(name, text)                                                                           \
	extern const uint8_t name##_begin[], name##_end[];                                         \
	__asm__(".pushsection .rodata\n" #name "_begin:\n\t" text "\n" #name "_end:\n.popsection")

CODE(c_cpuid, "cpuid");
CODE(c_rdmsr, "rdmsr");
CODE(c_wrmsr, "wrmsr");
CODE(c_hlt, "hlt");
CODE(c_vmmcall, "vmmcall");
CODE(c_xsetbv, "xsetbv");
CODE(c_invd, "invd");
CODE(c_wbinvd, "wbinvd");
CODE(c_clts, "clts");
CODE(c_to_cr0, "mov %rax, %cr0");
CODE(c_to_cr4, "mov %rsi, %cr4");
CODE(c_to_cr4_r13, "mov %r13, %cr4");
CODE(c_from_cr4, "mov %cr4, %rbx");
CODE(c_from_cr8, "mov %cr8, %rcx");
CODE(c_to_cr8, "mov %r15, %cr8");
CODE(c_lmsw_ax, "lmsw %ax");
CODE(c_lmsw_r9, "lmsw %r9w");
CODE(c_smsw_rdx, "smsw %rdx");
CODE(c_lmsw_mem, "lmsw (%rax)");
CODE(c_lmsw_sib, "lmsw 0x12(%rax,%rcx,2)");
CODE(c_lmsw_sib32, "lmsw 0x12345678(%r8,%r9,8)");
CODE(c_lmsw_rip, "lmsw 0x1000(%rip)");
CODE(c_lmsw_abs, "lmsw 0x1000");
CODE(c_lmsw_rsp, "lmsw (%rsp)");
CODE(c_lmsw_rbp, "lmsw (%rbp)");
CODE(c_lmsw_a32, "lmsw 0x12345678(%eax)");
CODE(c_smsw_fs, "smsw %fs:0x10(%rdi)");

static const struct {
	const uint8_t *begin, *end;
	uint8_t kind, cr, gpr;
	bool memory;
} oracle[] = {
#define ROW(name, kind, cr, gpr, memory) { name##_begin, name##_end, SVM_INSN_##kind, cr, gpr, memory }
	ROW(c_cpuid, CPUID, 0, 0, false), ROW(c_rdmsr, RDMSR, 0, 0, false),
	ROW(c_wrmsr, WRMSR, 0, 0, false), ROW(c_hlt, HLT, 0, 0, false),
	ROW(c_vmmcall, VMMCALL, 0, 0, false), ROW(c_xsetbv, XSETBV, 0, 0, false),
	ROW(c_invd, INVD, 0, 0, false), ROW(c_wbinvd, WBINVD, 0, 0, false),
	ROW(c_clts, CLTS, 0, 0, false), ROW(c_to_cr0, MOV_TO_CR, 0, 0, false),
	ROW(c_to_cr4, MOV_TO_CR, 4, 6, false), ROW(c_to_cr4_r13, MOV_TO_CR, 4, 13, false),
	ROW(c_from_cr4, MOV_FROM_CR, 4, 3, false), ROW(c_from_cr8, MOV_FROM_CR, 8, 1, false),
	ROW(c_to_cr8, MOV_TO_CR, 8, 15, false), ROW(c_lmsw_ax, LMSW, 0, 0, false),
	ROW(c_lmsw_r9, LMSW, 0, 9, false), ROW(c_smsw_rdx, SMSW, 0, 2, false),
	ROW(c_lmsw_mem, LMSW, 0, 0, true), ROW(c_lmsw_sib, LMSW, 0, 0, true),
	ROW(c_lmsw_sib32, LMSW, 0, 0, true), ROW(c_lmsw_rip, LMSW, 0, 0, true),
	ROW(c_lmsw_abs, LMSW, 0, 0, true), ROW(c_lmsw_rsp, LMSW, 0, 0, true),
	ROW(c_lmsw_rbp, LMSW, 0, 0, true), ROW(c_lmsw_a32, LMSW, 0, 0, true),
	ROW(c_smsw_fs, SMSW, 0, 0, true),
};

/* In a buffer of just that size: a byte read behind it stops the test. */
static bool decode_exact(const uint8_t *bytes, uint32_t n, bool long_mode, bool big,
	struct svm_decoded *d)
{
	uint8_t *copy = malloc(n ? n : 1);
	memcpy(copy, bytes, n);
	bool good = svm_decode(copy, n, long_mode, big, d);
	free(copy);
	return good;
}

static void agrees_with_the_assembler(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(oracle); i++) {
		uint32_t n = (uint32_t)(oracle[i].end - oracle[i].begin);
		uint8_t bytes[32];
		struct svm_decoded d;
		memset(bytes, 0x90, sizeof(bytes));
		memcpy(bytes, oracle[i].begin, n);
		assert_true(decode_exact(bytes, SVM_INSN_BYTES, true, false, &d));
		assert_int_equal(d.kind, oracle[i].kind);
		assert_int_equal(d.length, n);
		assert_int_equal(d.memory, oracle[i].memory);
		assert_int_equal(d.cr, oracle[i].cr);
		if (!d.memory)
			assert_int_equal(d.gpr, oracle[i].gpr);
		assert_true(decode_exact(bytes, n, true, false, &d));
		for (uint32_t cut = 0; cut < n; cut++)
			assert_false(decode_exact(bytes, cut, true, false, &d));
	}
}

static const uint8_t legacy[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };

/* Any prefixes in front, up to 15 bytes in all. */
static void prefixes_count(void **state)
{
	(void)state;
	uint8_t bytes[20];
	struct svm_decoded d;
	for (size_t p = 0; p < ARRAY_COUNT(legacy); p++)
		for (uint32_t count = 0; count <= 16; count++) {
			memset(bytes, legacy[p], count);
			memcpy(bytes + count, c_cpuid_begin, 2);
			bool fits = count + 2 <= SVM_INSN_BYTES;
			assert_int_equal(decode_exact(bytes, count + 2, true, false, &d), fits);
			if (fits)
				assert_int_equal(d.length, count + 2);
		}
}

static void rex_counts_only_before_the_opcode(void **state)
{
	(void)state;
	struct svm_decoded d;
	const uint8_t near[] = { 0x66, 0x41, 0x0f, 0x22, 0xe0 }; /* mov cr4, r8 */
	const uint8_t far[] = { 0x41, 0x66, 0x0f, 0x22, 0xe0 };  /* mov cr4, rax */
	assert_true(decode_exact(near, sizeof(near), true, false, &d));
	assert_int_equal(d.gpr, 8);
	assert_true(decode_exact(far, sizeof(far), true, false, &d));
	assert_int_equal(d.gpr, 0);
	/* Outside long mode 0x41 is an instruction. */
	assert_false(decode_exact(near, sizeof(near), false, true, &d));
}

static void lock_makes_cr0_cr8(void **state)
{
	(void)state;
	struct svm_decoded d;
	const uint8_t code[] = { 0xf0, 0x0f, 0x20, 0xc3 };
	assert_true(decode_exact(code, sizeof(code), false, true, &d));
	assert_int_equal(d.kind, SVM_INSN_MOV_FROM_CR);
	assert_int_equal(d.cr, 8);
	assert_int_equal(d.gpr, 3);
}

/* LMSW's memory forms by address size: bytes of ModRM, SIB and displacement. */
static void address_sizes(void **state)
{
	(void)state;
	static const struct {
		uint8_t modrm, sib, bytes16, bytes32;
	} forms[] = {
		{ 0x30, 0, 3, 3 }, { 0x36, 0, 5, 3 }, { 0x35, 0, 3, 7 }, { 0x34, 0x00, 3, 4 },
		{ 0x34, 0x05, 3, 8 }, { 0x70, 0, 4, 4 }, { 0x74, 0, 4, 5 }, { 0xb0, 0, 5, 7 },
		{ 0xb4, 0, 5, 8 }, { 0x74, 0x05, 4, 5 },
	};
	for (size_t i = 0; i < ARRAY_COUNT(forms); i++) {
		uint8_t code[SVM_INSN_BYTES] = { 0x0f, 0x01, forms[i].modrm, forms[i].sib };
		uint8_t other[SVM_INSN_BYTES] = { 0x67, 0x0f, 0x01, forms[i].modrm, forms[i].sib };
		struct svm_decoded d;
		assert_true(decode_exact(code, sizeof(code), false, false, &d));
		assert_int_equal(d.length, forms[i].bytes16);
		assert_true(decode_exact(code, sizeof(code), false, true, &d));
		assert_int_equal(d.length, forms[i].bytes32);
		assert_true(decode_exact(other, sizeof(other), false, true, &d));
		assert_int_equal(d.length, forms[i].bytes16 + 1);
		assert_true(decode_exact(other, sizeof(other), false, false, &d));
		assert_int_equal(d.length, forms[i].bytes32 + 1);
		assert_true(decode_exact(code, sizeof(code), true, false, &d));
		assert_int_equal(d.length, forms[i].bytes32);
	}
}

static void others_are_refused(void **state)
{
	(void)state;
	static const uint8_t codes[][4] = {
		{ 0x90 }, { 0x0f, 0x05 }, { 0x0f, 0x01, 0xd8 }, { 0x0f, 0x01, 0x18 },
		{ 0x0f, 0x21, 0xc0 }, { 0xcd, 0x80 }, { 0xe4, 0x60 }, { 0x0f, 0x0b },
	};
	struct svm_decoded d;
	for (size_t i = 0; i < ARRAY_COUNT(codes); i++)
		assert_false(svm_decode(codes[i], sizeof(codes[i]), true, false, &d));
}

static void random_bytes(void **state)
{
	(void)state;
	uint64_t seed = 1;
	for (uint32_t round = 0; round < 200000; round++) {
		uint8_t bytes[SVM_INSN_BYTES + 3];
		uint32_t n = round % (sizeof(bytes) + 1);
		for (uint32_t i = 0; i < n; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			/* Bytes that mean something come more often. */
			bytes[i] = seed >> 60 < 6 ? 0x0f : seed >> 60 < 9 ? legacy[(seed >> 33) % 11] :
								     (uint8_t)(seed >> 33);
		}
		struct svm_decoded d, again;
		if (!decode_exact(bytes, n, seed >> 40 & 1, seed >> 41 & 1, &d))
			continue;
		assert_in_range(d.length, 1, MIN(n, SVM_INSN_BYTES));
		/* Just these bytes are enough, one less is not. */
		assert_true(decode_exact(bytes, d.length, seed >> 40 & 1, seed >> 41 & 1, &again));
		assert_memory_equal(&d, &again, sizeof(d));
		assert_false(decode_exact(bytes, d.length - 1u, seed >> 40 & 1, seed >> 41 & 1, &again));
	}
}

/* ---- walking a guest's tables ---------------------------------------------------------------- */

#define RAM_PAGES 16u
static uint64_t ram[RAM_PAGES * 512];

static bool read_ram(void *ctx, uint64_t gpa, void *buf, uint32_t bytes)
{
	(void)ctx;
	if (gpa > sizeof(ram) - bytes || gpa > sizeof(ram))
		return false;
	memcpy(buf, (uint8_t *)ram + gpa, bytes);
	return true;
}

static void map(uint32_t page, uint32_t index, uint64_t entry)
{
	ram[page * 512 + index] = entry;
}

/* Tables: 1 root, 2, 3, 4. Code in pages 5 and 6. */
static void tables(void)
{
	memset(ram, 0, sizeof(ram));
	map(1, 0, 2 << 12 | 3);
	map(1, 511, 2 << 12 | 3);
	map(2, 0, 3 << 12 | 3);
	map(2, 1, 0x40000000ull | 1 << 7 | 3); /* 1 GiB */
	map(3, 0, 4 << 12 | 3);
	map(3, 1, 0x200000ull | 1 << 7 | 1 << 12 | 3); /* 2 MiB, PAT set: no address bit */
	map(4, 5, 5 << 12 | 1ull << 63 | 3); /* no-execute is not looked at */
	map(4, 6, 6 << 12 | 3);
	map(4, 8, 0x100000000ull | 3); /* outside memory */
}

static void leaves_of_all_sizes(void **state)
{
	(void)state;
	uint64_t gpa;
	tables();
	assert_true(guest_walk(0x1018, 0x5123, read_ram, NULL, &gpa)); /* CR3's low bits */
	assert_int_equal(gpa, 0x5123);
	assert_true(guest_walk(0x1000, 0x212345, read_ram, NULL, &gpa));
	assert_int_equal(gpa, 0x212345);
	assert_true(guest_walk(0x1000, 0x40123456, read_ram, NULL, &gpa));
	assert_int_equal(gpa, 0x40123456);
	assert_true(guest_walk(0x1000, 0xffffff8000005678ull, read_ram, NULL, &gpa));
	assert_int_equal(gpa, 0x5678);
}

static void what_is_not_mapped(void **state)
{
	(void)state;
	uint64_t gpa;
	tables();
	assert_false(guest_walk(0x1000, 0x7000, read_ram, NULL, &gpa));
	assert_false(guest_walk(0x1000, 0x800000, read_ram, NULL, &gpa));
	assert_false(guest_walk(0x1000, 1ull << 47, read_ram, NULL, &gpa)); /* not canonical */
	assert_false(guest_walk(0x1000, 1ull << 40, read_ram, NULL, &gpa));
	assert_false(guest_walk(0x4000000, 0x5000, read_ram, NULL, &gpa)); /* unreadable root */
}

static void fetch_over_a_page_boundary(void **state)
{
	(void)state;
	uint8_t got[15];
	tables();
	for (uint32_t i = 0; i < 8192; i++)
		((uint8_t *)ram)[5 * 4096 + i] = (uint8_t)(i * 7);
	assert_int_equal(guest_fetch(0x1000, 0x5ffa, read_ram, NULL, got, 15), 15);
	for (uint32_t i = 0; i < 15; i++)
		assert_int_equal(got[i], (uint8_t)((0xffa + i) * 7));
	assert_int_equal(guest_fetch(0x1000, 0x6ffa, read_ram, NULL, got, 15), 6); /* 7000: nothing */
	assert_int_equal(guest_fetch(0x1000, 0x7000, read_ram, NULL, got, 15), 0);
	assert_int_equal(guest_fetch(0x1000, 0x8000, read_ram, NULL, got, 15), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_assembler),
		cmocka_unit_test(prefixes_count),
		cmocka_unit_test(rex_counts_only_before_the_opcode),
		cmocka_unit_test(lock_makes_cr0_cr8),
		cmocka_unit_test(address_sizes),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(random_bytes),
		cmocka_unit_test(leaves_of_all_sizes),
		cmocka_unit_test(what_is_not_mapped),
		cmocka_unit_test(fetch_over_a_page_boundary),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
