/* Pure. See decode.h. */
#include "arch/x86/svm/decode.h"

struct cursor {
	const uint8_t *bytes;
	uint32_t at, count;
	bool truncated;
};

struct prefixes {
	bool lock, address;
	uint8_t rex;
};

#define REX_B 1u
#define REX_R 4u

static uint8_t next(struct cursor *c)
{
	if (c->at < c->count)
		return c->bytes[c->at++];
	c->truncated = true;
	return 0;
}

static void ignore(struct cursor *c, uint32_t bytes)
{
	if (bytes > c->count - c->at)
		c->truncated = true;
	else
		c->at += bytes;
}

/* Returns the first byte that is no prefix. A REX counts only right in front of the opcode. */
static uint8_t read_prefixes(struct cursor *c, bool long_mode, struct prefixes *p)
{
	*p = (struct prefixes){ 0 };
	for (;;) {
		uint8_t b = next(c);
		if (c->truncated)
			return 0;
		if (long_mode && (b & 0xf0u) == 0x40u) {
			p->rex = b;
			continue;
		}
		switch (b) {
		case 0xf0:
			p->lock = true;
			break;
		case 0x67:
			p->address = true;
			break;
		case 0x66: case 0xf2: case 0xf3:
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
			break;
		default:
			return b;
		}
		p->rex = 0;
	}
}

/* What follows a ModRM that names memory: SIB and displacement. */
static void skip_operand(struct cursor *c, uint8_t modrm, uint32_t address_bits)
{
	uint32_t mod = modrm >> 6, rm = modrm & 7u;
	if (address_bits == 16) {
		ignore(c, mod == 2 || (mod == 0 && rm == 6) ? 2 : mod == 1 ? 1 : 0);
		return;
	}
	if (rm == 4) {
		uint8_t sib = next(c);
		if (mod == 0 && (sib & 7u) == 5)
			ignore(c, 4);
	} else if (mod == 0 && rm == 5) {
		ignore(c, 4);
	}
	ignore(c, mod == 2 ? 4 : mod == 1 ? 1 : 0);
}

static uint32_t address_bits(bool long_mode, bool big, bool prefix)
{
	if (long_mode)
		return prefix ? 32 : 64;
	return big != prefix ? 32 : 16;
}

/* 0f 01: by the whole ModRM, or LMSW and SMSW by its middle. */
static enum svm_insn group7(struct cursor *c, const struct prefixes *p, uint32_t bits,
	struct svm_decoded *out)
{
	uint8_t modrm = next(c);
	if (modrm == 0xd9)
		return SVM_INSN_VMMCALL;
	if (modrm == 0xd1)
		return SVM_INSN_XSETBV;
	uint32_t reg = modrm >> 3 & 7u;
	if (reg != 4 && reg != 6)
		return SVM_INSN_NONE;
	out->memory = modrm >> 6 != 3;
	if (out->memory)
		skip_operand(c, modrm, bits);
	else
		out->gpr = (uint8_t)((modrm & 7u) | (p->rex & REX_B ? 8u : 0));
	return reg == 4 ? SVM_INSN_SMSW : SVM_INSN_LMSW;
}

/* Always of registers, whatever mod says. */
static enum svm_insn mov_cr(struct cursor *c, const struct prefixes *p, bool write,
	struct svm_decoded *out)
{
	uint8_t modrm = next(c);
	out->cr = (uint8_t)((modrm >> 3 & 7u) | (p->rex & REX_R || p->lock ? 8u : 0));
	out->gpr = (uint8_t)((modrm & 7u) | (p->rex & REX_B ? 8u : 0));
	return write ? SVM_INSN_MOV_TO_CR : SVM_INSN_MOV_FROM_CR;
}

static enum svm_insn two_byte(struct cursor *c, const struct prefixes *p, uint32_t bits,
	struct svm_decoded *out)
{
	switch (next(c)) {
	case 0x01:
		return group7(c, p, bits, out);
	case 0x06:
		return SVM_INSN_CLTS;
	case 0x08:
		return SVM_INSN_INVD;
	case 0x09:
		return SVM_INSN_WBINVD;
	case 0x20:
		return mov_cr(c, p, false, out);
	case 0x22:
		return mov_cr(c, p, true, out);
	case 0x30:
		return SVM_INSN_WRMSR;
	case 0x32:
		return SVM_INSN_RDMSR;
	case 0xa2:
		return SVM_INSN_CPUID;
	default:
		return SVM_INSN_NONE;
	}
}

bool svm_decode(const uint8_t *bytes, uint32_t count, bool long_mode, bool big,
	struct svm_decoded *out)
{
	struct cursor c = { bytes, 0, MIN(count, SVM_INSN_BYTES), false };
	struct prefixes p;
	*out = (struct svm_decoded){ 0 };
	uint8_t opcode = read_prefixes(&c, long_mode, &p);
	enum svm_insn kind = SVM_INSN_NONE;
	if (opcode == 0xf4)
		kind = SVM_INSN_HLT;
	else if (opcode == 0x0f)
		kind = two_byte(&c, &p, address_bits(long_mode, big, p.address), out);
	if (kind == SVM_INSN_NONE || c.truncated)
		return false;
	out->kind = (uint8_t)kind;
	out->length = (uint8_t)c.at;
	return true;
}
