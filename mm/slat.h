/*
 * What mm needs of the second-level page tables (EPT, NPT): a description of the format, and
 * flushes. Implemented by arch. One walker (mm/p2m.c) serves all formats. Model: NOVA's ptab.hpp,
 * Jailhouse's paging.h.
 *
 * Every format has 512 8-byte entries a table, 4 levels (level 1 = 4 KiB leaf, 2 = 2 MiB, 3 = 1 GiB,
 * 4 = root), and an address in bits 12..51. An entry with (e & present_mask) == 0 is not present
 * and all its other bits but 63 belong to mm. In a present leaf bits 52..55 belong to mm.
 * Sources: SDM vol. 3C "EPT Translation Mechanism"; APM vol. 2 "Nested Paging".
 */
#pragma once

#include "vmm/base/cpu.h"

#define SLAT_LEVELS      4u
#define SLAT_ADDR_MASK   0x000ffffffffff000ull
#define SLAT_SW_SHIFT    52u /* 4 bits for mm in a present leaf */
#define SLAT_SW_MASK     (0xfull << SLAT_SW_SHIFT)

struct slat_format {
	const char *name;
	uint64_t present_mask; /* any of these set: present */
	uint64_t table;        /* or-ed to a table's address */
	uint64_t leaf_4k;      /* or-ed to a 4 KiB frame's address: readable, executable, write-back */
	uint64_t leaf_big;     /* the same for a 2 MiB or 1 GiB leaf; contains big_mask */
	uint64_t big_mask;     /* set in a leaf of level 2 or 3, clear in a table */
	uint64_t write;        /* or-ed to a leaf: writable */
	uint64_t accessed;     /* 0: hardware does not set it */
	uint64_t dirty;        /* 0: hardware does not set it */
	bool has_1g;
	/* leaf_big is not executable, whatever is said above: a fetch from such a leaf faults with P2M_EXEC, and the
	 * leaf becomes a table for good (p2m_fault()). For processors that must not have large executable pages. */
	bool big_no_exec;
};

/* The machine's format. Constant after boot. */
extern const struct slat_format *slat_format;

/* What arch keeps for one second-level address space. Opaque to mm but for `root`. */
struct slat_space {
	mfn_t root;          /* set by mm before the first use */
	uint64_t arch_tag;   /* arch's own: EPTP, ASID */
	uint64_t generation; /* bumped by each flush: a CPU that ran an older one must flush first; atomic */
	uint64_t seen[CPU_MAX]; /* what each CPU has flushed for; its own to write */
	uint64_t flush_count; /* for stats; the p2m's lock */
	uint64_t kick_count;  /* CPUs that had to leave the guest for it */
};

/*
 * No CPU uses any translation of `s` that was cached before the call. Call after entries became
 * less permissive and before their frames are read or reused; not needed after not-present ->
 * present. Takes no lock; may be called with any lock held, as CPUs leave the guest without one
 * (docs/shootdown.md). Takes as long as it takes them: microseconds.
 */
void slat_flush(struct slat_space *s);
