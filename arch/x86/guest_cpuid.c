/* Pure. The CPUID table of a guest. */
#include "arch/x86/guest_cpuid.h"
#include "arch/x86/regs.h"
#include "vmm/abi/aerostat.h"

#define BIT(n) (1u << (n))

/* Leaf 1 ecx: SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
#define L1_ECX                                                                                     \
	(BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | BIT(20) | BIT(22) |    \
		BIT(23) | BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30))
#define L1_ECX_X2APIC     BIT(21)
#define L1_ECX_DEADLINE   BIT(24)
#define L1_ECX_XSAVE      BIT(26)
#define L1_ECX_OSXSAVE    BIT(27)
#define L1_ECX_AVX_FAMILY (BIT(12) | BIT(28) | BIT(29))
#define L1_ECX_HYPERVISOR BIT(31)
/* Leaf 1 edx: FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2
 * SS. Not MTRR and MCA: there are no such registers. */
#define L1_EDX                                                                                     \
	(BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | \
		BIT(11) | BIT(13) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) |    \
		BIT(25) | BIT(26) | BIT(27))

#define L1_EDX_HTT BIT(28)

/* Leaf 7.0 ebx: FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT CLWB SHA */
#define L7_EBX                                                                                     \
	(BIT(0) | BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(18) | BIT(19) |       \
		BIT(20) | BIT(23) | BIT(24) | BIT(29))
#define L7_EBX_INVPCID BIT(10)
#define L7_EBX_AVX2    BIT(5)
/* AVX-512 F DQ IFMA CD BW VL */
#define L7_EBX_AVX512 (BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31))
/* ecx: UMIP GFNI RDPID; with AVX: VAES VPCLMULQDQ; with AVX-512: VBMI VBMI2 VNNI BITALG VPOPCNTDQ */
#define L7_ECX        (BIT(2) | BIT(8) | BIT(22))
#define L7_ECX_RDPID  BIT(22)
#define L7_ECX_AVX    (BIT(9) | BIT(10))
#define L7_ECX_AVX512 (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
/* edx: fast short REP MOV, MD_CLEAR */
#define L7_EDX (BIT(4) | BIT(10))

#define LD1_EAX (BIT(0) | BIT(2)) /* XSAVEOPT, XGETBV with ECX = 1 */

/* 0x80000001: LAHF ABM(LZCNT) PREFETCHW; SYSCALL NX 1G pages RDTSCP LM */
#define E1_ECX        (BIT(0) | BIT(5) | BIT(8))
#define E1_EDX        (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29))
#define E1_EDX_RDTSCP BIT(27)
#define E7_EDX        BIT(8) /* invariant TSC */

#define XCR0_OFFERED (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512)


static void add(struct guest_cpuid *t, uint32_t leaf, uint32_t subleaf, struct cpuid_regs regs)
{
	if (t->indexed_count >= GUEST_CPUID_INDEXED)
		return; /* a subleaf too many reads as zero, as one that does not exist */
	uint32_t i = t->indexed_count++;
	t->indexed[i].leaf = leaf;
	t->indexed[i].subleaf = subleaf;
	t->indexed[i].regs = regs;
}

static struct cpuid_regs ask(cpuid_read_fn host, uint32_t leaf, uint32_t subleaf, uint32_t max)
{
	struct cpuid_regs r = { 0 };
	if (leaf <= max)
		host(leaf, subleaf, &r);
	return r;
}

static uint64_t xcr0_offered(cpuid_read_fn host, uint32_t max)
{
	if (!(ask(host, 1, 0, max).ecx & L1_ECX_XSAVE) || max < 0xd)
		return 0;
	struct cpuid_regs r = ask(host, 0xd, 0, max);
	uint64_t x = (r.eax | (uint64_t)r.edx << 32) & XCR0_OFFERED;
	if (!(x & XCR0_AVX) || (x & XCR0_AVX512) != XCR0_AVX512)
		x &= ~XCR0_AVX512;
	return (x & (XCR0_X87 | XCR0_SSE)) == (XCR0_X87 | XCR0_SSE) ? x : 0;
}

static void basic_leaves(struct guest_cpuid *t, const struct guest_cpuid_config *c,
	cpuid_read_fn host, uint32_t max)
{
	t->basic[0] = ask(host, 0, 0, max);
	t->basic[0].eax = MIN(max, GUEST_CPUID_BASIC - 1);

	struct cpuid_regs *r = &t->basic[1];
	*r = ask(host, 1, 0, max);
	r->ebx = (r->ebx & 0xffffu) | MIN(c->vcpu_count, 0xffu) << 16 | (c->apic_id & 0xffu) << 24;
	r->ecx = (r->ecx & L1_ECX) | L1_ECX_X2APIC | L1_ECX_DEADLINE | L1_ECX_HYPERVISOR;
	r->edx &= L1_EDX;
	if (c->vcpu_count > 1)
		r->edx |= L1_EDX_HTT; /* else the count in ebx says nothing */
	if (t->xcr0_allowed == 0)
		r->ecx &= ~L1_ECX_XSAVE;
	if (!(t->xcr0_allowed & XCR0_AVX))
		r->ecx &= ~L1_ECX_AVX_FAMILY;
	t->basic[2] = ask(host, 2, 0, max);
	t->basic[6].eax = BIT(2); /* the APIC timer never stops */
}

static void feature_leaf(struct guest_cpuid *t, const struct guest_cpuid_config *c,
	cpuid_read_fn host, uint32_t max)
{
	struct cpuid_regs r = ask(host, 7, 0, max);
	uint32_t ebx = L7_EBX, ecx = L7_ECX;
	if (t->xcr0_allowed & XCR0_AVX)
		ecx |= L7_ECX_AVX;
	else
		ebx &= ~L7_EBX_AVX2;
	if (t->xcr0_allowed & XCR0_AVX512) {
		ebx |= L7_EBX_AVX512;
		ecx |= L7_ECX_AVX512;
	}
	if (!c->invpcid)
		ebx &= ~L7_EBX_INVPCID;
	if (!c->rdtscp)
		ecx &= ~L7_ECX_RDPID;
	add(t, 7, 0, (struct cpuid_regs){ 0, r.ebx & ebx, r.ecx & ecx, r.edx & L7_EDX });
}

static void cache_leaf(struct guest_cpuid *t, cpuid_read_fn host, uint32_t max)
{
	for (uint32_t sub = 0; sub < 5; sub++) {
		struct cpuid_regs r = ask(host, 4, sub, max);
		if ((r.eax & 31u) == 0)
			break;
		r.eax &= 0x3fffu; /* shared by one thread, one core in the package */
		add(t, 4, sub, r);
	}
}

/* Bits of an APIC id that tell cores of a package apart. */
static uint32_t id_bits(uint32_t count)
{
	return count > 1 ? 32u - (uint32_t)__builtin_clz(count - 1) : 0;
}

static void topology_leaf(struct guest_cpuid *t, const struct guest_cpuid_config *c)
{
	/* One thread a core, vcpu_count cores. */
	add(t, 0xb, 0, (struct cpuid_regs){ 0, 1, 1u << 8 | 0u, c->apic_id });
	add(t, 0xb, 1, (struct cpuid_regs){ id_bits(c->vcpu_count), c->vcpu_count, 2u << 8 | 1u,
		c->apic_id });
}

static void xsave_leaf(struct guest_cpuid *t, cpuid_read_fn host, uint32_t max)
{
	if (t->xcr0_allowed == 0)
		return;
	uint32_t bytes = 576; /* legacy region and header */
	for (uint32_t i = 2; i < 32; i++) {
		if (!(t->xcr0_allowed >> i & 1u))
			continue;
		struct cpuid_regs r = ask(host, 0xd, i, max);
		bytes = MAX(bytes, r.eax + r.ebx); /* size, offset */
	}
	add(t, 0xd, 0, (struct cpuid_regs){ (uint32_t)t->xcr0_allowed, 576, bytes,
		(uint32_t)(t->xcr0_allowed >> 32) });
	add(t, 0xd, 1, (struct cpuid_regs){ ask(host, 0xd, 1, max).eax & LD1_EAX, 0, 0, 0 });
	for (uint32_t i = 2; i < 32; i++) {
		if (!(t->xcr0_allowed >> i & 1u))
			continue;
		struct cpuid_regs r = ask(host, 0xd, i, max);
		add(t, 0xd, i, (struct cpuid_regs){ r.eax, r.ebx, 0, 0 });
	}
}

static void extended_leaves(struct guest_cpuid *t, const struct guest_cpuid_config *c,
	cpuid_read_fn host)
{
	struct cpuid_regs r;
	host(0x80000000u, 0, &r);
	uint32_t max = MIN(r.eax, 0x80000000u + GUEST_CPUID_EXTENDED - 1);
	if (max < 0x80000001u)
		return;
	t->extended[0] = (struct cpuid_regs){ max, r.ebx, r.ecx, r.edx };
	r = ask(host, 0x80000001u, 0, max);
	uint32_t edx = c->rdtscp ? E1_EDX : E1_EDX & ~E1_EDX_RDTSCP;
	t->rdtscp = (r.edx & edx & E1_EDX_RDTSCP) != 0;
	t->extended[1] = (struct cpuid_regs){ 0, 0, r.ecx & E1_ECX, r.edx & edx };
	for (uint32_t i = 2; i <= 6; i++) /* brand string, caches */
		t->extended[i] = ask(host, 0x80000000u + i, 0, max);
	t->extended[7].edx = ask(host, 0x80000007u, 0, max).edx & E7_EDX;
	/* Address widths. 4-level second-level tables reach 48 bits. */
	uint32_t width = ask(host, 0x80000008u, 0, max).eax;
	t->extended[8].eax = MIN(width & 0xffu, 48u) | MIN(width >> 8 & 0xffu, 48u) << 8;
}

static void hv_leaves(struct guest_cpuid *t, const struct guest_cpuid_config *c)
{
	t->hv[0] = (struct cpuid_regs){ AERO_CPUID_TIME, AERO_CPUID_EBX, AERO_CPUID_ECX,
		AERO_CPUID_EDX };
	t->hv[1] = (struct cpuid_regs){ AERO_ABI_MAJOR << 16 | AERO_ABI_MINOR, c->features, c->call,
		c->guest_id };
	t->hv[2] = (struct cpuid_regs){ c->tsc_khz, 0, 0, 0 };
}

/* CR4 bits follow from the features told of. */
static uint64_t cr4_allowed(const struct guest_cpuid *t)
{
	static const struct {
		uint64_t cr4;
		uint8_t where; /* 0: leaf 1 edx, 1: leaf 1 ecx, 2: leaf 7 ebx, 3: leaf 7 ecx */
		uint8_t bit;
	} need[] = {
		{ CR4_VME | CR4_PVI, 0, 1 }, { CR4_DE, 0, 2 }, { CR4_PSE, 0, 3 }, { CR4_TSD, 0, 4 },
		{ CR4_PAE, 0, 6 }, { CR4_MCE, 0, 7 }, { CR4_PGE, 0, 13 },
		{ CR4_OSFXSR, 0, 24 }, { CR4_OSXMMEXCPT, 0, 25 }, { CR4_PCIDE, 1, 17 },
		{ CR4_OSXSAVE, 1, 26 }, { CR4_FSGSBASE, 2, 0 }, { CR4_SMEP, 2, 7 },
		{ CR4_SMAP, 2, 20 }, { CR4_UMIP, 3, 2 },
	};
	const struct cpuid_regs *f = guest_cpuid_find_slow(t, 7, 0);
	uint32_t word[4] = { t->basic[1].edx, t->basic[1].ecx, f->ebx, f->ecx };
	uint64_t allowed = CR4_PCE; /* RDPMC exits whatever it says */
	for (size_t i = 0; i < ARRAY_COUNT(need); i++)
		if (word[need[i].where] >> need[i].bit & 1u)
			allowed |= need[i].cr4;
	return allowed;
}

void guest_cpuid_init(struct guest_cpuid *t, const struct guest_cpuid_config *c,
	cpuid_read_fn host)
{
	*t = (struct guest_cpuid){ 0 };
	struct cpuid_regs r;
	host(0, 0, &r);
	uint32_t max = r.eax;
	t->xcr0_allowed = xcr0_offered(host, max);
	basic_leaves(t, c, host, max);
	cache_leaf(t, host, max);
	feature_leaf(t, c, host, max);
	topology_leaf(t, c);
	xsave_leaf(t, host, max);
	extended_leaves(t, c, host);
	hv_leaves(t, c);
	t->cr4_allowed = cr4_allowed(t);
}

void guest_cpuid_set_cr4(struct guest_cpuid *t, uint64_t cr4)
{
	if (cr4 & CR4_OSXSAVE)
		t->basic[1].ecx |= L1_ECX_OSXSAVE;
	else
		t->basic[1].ecx &= ~L1_ECX_OSXSAVE;
}

bool guest_cpuid_xcr0_ok(const struct guest_cpuid *t, uint64_t xcr0)
{
	if ((xcr0 & ~t->xcr0_allowed) || !(xcr0 & XCR0_X87))
		return false;
	if ((xcr0 & XCR0_AVX) && !(xcr0 & XCR0_SSE))
		return false;
	uint64_t avx512 = xcr0 & XCR0_AVX512;
	return avx512 == 0 || (avx512 == XCR0_AVX512 && (xcr0 & XCR0_AVX));
}

void guest_cpuid_set_xcr0(struct guest_cpuid *t, uint64_t xcr0)
{
	uint32_t bytes = 576;
	struct cpuid_regs *top = NULL;
	for (uint32_t i = 0; i < t->indexed_count; i++) {
		if (t->indexed[i].leaf != 0xd)
			continue;
		const struct cpuid_regs *r = &t->indexed[i].regs;
		uint32_t sub = t->indexed[i].subleaf;
		if (sub == 0)
			top = &t->indexed[i].regs;
		else if (sub >= 2 && (xcr0 >> sub & 1u))
			bytes = MAX(bytes, r->eax + r->ebx);
	}
	if (top != NULL)
		top->ebx = bytes;
}

uint32_t guest_cpuid_xsave_bytes(const struct guest_cpuid *t)
{
	return t->xcr0_allowed == 0 ? 512u : guest_cpuid_find_slow(t, 0xd, 0)->ecx;
}

const struct cpuid_regs *guest_cpuid_find_slow(const struct guest_cpuid *t, uint32_t leaf,
	uint32_t subleaf)
{
	static const struct cpuid_regs none;
	if (leaf < GUEST_CPUID_BASIC) {
		if (!(GUEST_CPUID_INDEXED_LEAVES >> leaf & 1u))
			return &t->basic[leaf];
		for (uint32_t i = 0; i < t->indexed_count; i++)
			if (t->indexed[i].leaf == leaf && t->indexed[i].subleaf == subleaf)
				return &t->indexed[i].regs;
		return &none;
	}
	if (leaf - AERO_CPUID_BASE < GUEST_CPUID_HV)
		return &t->hv[leaf - AERO_CPUID_BASE];
	if (leaf - 0x80000000u < GUEST_CPUID_EXTENDED)
		return &t->extended[leaf - 0x80000000u];
	return &none;
}
