/* A guest's memory of any content, executed at any address: the fetch and the decoder stay inside what
 * they were given, and say the same of the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "arch/x86/guest_walk.h"
#include "arch/x86/svm/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct memory {
	const uint8_t *data;
	size_t bytes;
	uint32_t reads;
};

/* Small addresses lie in the input, repeated every 4 KiB. */
static bool read_memory(void *ctx, uint64_t gpa, void *buf, uint32_t count)
{
	struct memory *m = ctx;
	uint64_t at = gpa & 0xfff;

	m->reads++;
	if (gpa >> 24 || at + count > m->bytes)
		return false;
	memcpy(buf, m->data + at, count);
	return true;
}

static void check(const uint8_t *code, uint32_t count, bool long_mode, bool big)
{
	struct svm_decoded d, again;
	uint8_t *exact = malloc(count ? count : 1);

	memcpy(exact, code, count);
	if (svm_decode(exact, count, long_mode, big, &d)) {
		if (d.kind == SVM_INSN_NONE || d.length == 0 || d.length > count ||
			d.length > SVM_INSN_BYTES || d.gpr > 15 || d.cr > 15)
			abort();
		if (!svm_decode(exact, d.length, long_mode, big, &again) ||
			memcmp(&d, &again, sizeof(d)) != 0 ||
			svm_decode(exact, d.length - 1u, long_mode, big, &again))
			abort();
	}
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint64_t cr3, rip;
	uint8_t code[SVM_INSN_BYTES];

	if (bytes < 16)
		return 0;
	memcpy(&cr3, data, 8);
	memcpy(&rip, data + 8, 8);
	struct memory m = { data + 16, bytes - 16, 0 };
	uint32_t n = guest_fetch(cr3, rip, read_memory, &m, code, sizeof(code));
	/* Two pages, four tables each, and their bytes. */
	if (n > sizeof(code) || m.reads > 10)
		abort();
	for (uint32_t mode = 0; mode < 4; mode++) {
		check(code, n, mode & 1, mode >> 1);
		check(m.data, (uint32_t)(m.bytes < 20 ? m.bytes : 20), mode & 1, mode >> 1);
	}
	return 0;
}
