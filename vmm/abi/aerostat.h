/*
 * The guest ABI, version 1.0. The prose is docs/abi.md; this file is the numbers. stdint only: a
 * driver for another kernel may copy it (MIT).
 */
#pragma once

#include <stdint.h>

#define AERO_ABI_MAJOR 1u
#define AERO_ABI_MINOR 1u

/*
 * CPUID discovery. Leaf base: eax = highest leaf, ebx ecx edx = "AerostatHV\0\0".
 * base+1: eax = major << 16 | minor, ebx = AERO_FEAT_* bits, ecx = AERO_CALL_*, edx = guest id.
 * base+2: eax = TSC kHz (also the x2APIC timer's, divider 1), ebx ecx edx = 0.
 */
#define AERO_CPUID_BASE     0x40000000u
#define AERO_CPUID_FEATURES 0x40000001u
#define AERO_CPUID_TIME     0x40000002u
#define AERO_CPUID_EBX      0x6f726541u /* "Aero" */
#define AERO_CPUID_ECX      0x74617473u /* "stat" */
#define AERO_CPUID_EDX      0x00005648u /* "HV\0\0" */

#define AERO_FEAT_CONSOLE  (1u << 0)
#define AERO_FEAT_BLOCK    (1u << 1)
#define AERO_FEAT_EVENT    (1u << 2)
#define AERO_FEAT_BALLOON  (1u << 3)
#define AERO_FEAT_STATS    (1u << 4)
#define AERO_FEAT_PRESSURE (1u << 5)
#define AERO_FEAT_YIELD    (1u << 6)

#define AERO_CALL_VMCALL  0u
#define AERO_CALL_VMMCALL 1u

/*
 * Hypercalls: number in rax; arguments in rdi, rsi, rdx, r10, r8; rax returns a value >= 0 or
 * -AERO_E*. No other register changes. CPL 0 only: from elsewhere #UD is injected.
 * Addresses are guest physical; buffers may cross pages but must lie in the guest's memory.
 */
enum aero_hypercall {
	AERO_HC_NULL = 0,          /* () -> 0 */
	AERO_HC_CONSOLE_WRITE = 1, /* (gpa, bytes <= 4096) -> bytes taken (may be fewer) */
	AERO_HC_CONSOLE_READ = 2,  /* (gpa, bytes <= 4096) -> bytes given, 0 if none waits */
	AERO_HC_BLOCK_INFO = 3,    /* (gpa of struct aero_block_info) -> 0 */
	AERO_HC_BLOCK_IO = 4,      /* (gpa of struct aero_block_req[], count <= 64) -> requests tried;
	                              each has its status */
	AERO_HC_EVENT_SETUP = 5,   /* (vector 32..255, or 0 for off) -> 0 */
	AERO_HC_EVENT_TAKE = 6,    /* () -> AERO_EVENT_* bits pending, and clears them */
	AERO_HC_BALLOON_SETUP = 7, /* (gpa of a page-aligned struct aero_balloon_page, or 0 to end;
	                              flags 0) -> 0; ending gives every ballooned page back */
	AERO_HC_BALLOON_INFLATE = 8, /* (gpa of struct aero_range[], count <= 512) -> ranges tried */
	AERO_HC_BALLOON_DEFLATE = 9, /* (gpa of struct aero_range[], count <= 512, AERO_DEFLATE_*) */
	AERO_HC_BALLOON_REPORT = 10, /* (enum aero_balloon_state, enum aero_balloon_reason,
	                                pages short of the target) -> 0 */
	AERO_HC_STATS_REPORT = 11,   /* (stats_request being answered) -> 0: page.stats are fresh */
	AERO_HC_PRESSURE = 12, /* (enum aero_pressure, pages wanted) -> pages the balloon may shrink
	                          to at once (the new balloon target) */
	AERO_HC_SHUTDOWN = 13, /* (enum aero_shutdown, code): does not return on success */
	AERO_HC_DEBUG = 14,    /* (enum aero_debug, arg): -AERO_EPERM unless the config allows it */
	AERO_HC_YIELD = 15,    /* (id of the vCPU that is spun for, or ~0 for any other) -> 0 */
	AERO_HC_COUNT
};

enum aero_error {
	AERO_EPERM = 1,
	AERO_ENOENT = 2,
	AERO_EIO = 5,
	AERO_ENOMEM = 12,
	AERO_EFAULT = 14, /* an address is not in the guest's memory */
	AERO_EBUSY = 16,
	AERO_EEXIST = 17, /* that page is in the balloon already */
	AERO_EINVAL = 22,
	AERO_ERANGE = 34, /* a gfn, sector, count or order is out of range */
	AERO_ENOSYS = 38,
	AERO_EALREADY = 114, /* deflate of a page that is not in the balloon */
};

/* Events: one interrupt vector a guest, edge-triggered; AERO_HC_EVENT_TAKE tells which. */
#define AERO_EVENT_CONSOLE  (1u << 0) /* console input waits */
#define AERO_EVENT_BALLOON  (1u << 1) /* balloon page: generation moved */
#define AERO_EVENT_STATS    (1u << 2) /* balloon page: stats_request moved */
#define AERO_EVENT_SHUTDOWN (1u << 3) /* the operator asks for an orderly end */

/* Block device: 512-byte sectors, synchronous. */
#define AERO_SECTOR_BYTES 512u

struct aero_block_info {
	uint64_t sector_count; /* 0: this guest has no disk */
	uint32_t sector_bytes; /* 512 */
	uint32_t request_max;  /* sectors a request: 2048 */
};

enum aero_block_op { AERO_BLOCK_READ = 0, AERO_BLOCK_WRITE = 1, AERO_BLOCK_FLUSH = 2 };

struct aero_block_req {
	uint64_t sector;
	uint64_t gpa; /* 512-byte aligned */
	uint32_t sectors;
	uint16_t op;
	int16_t status; /* out: 0 or -AERO_E* */
};

/* count blocks of 2^order pages from gfn on; order 0 or 9; a block is naturally aligned. */
struct aero_range {
	uint64_t gfn;
	uint32_t count;
	uint32_t done;  /* out: blocks done, from the first on */
	uint16_t order;
	int16_t status; /* out: 0, or why block `done` could not be done */
	uint32_t reserved; /* 0 */
};

#define AERO_RANGE_MAX 512u /* ranges a call */
#define AERO_DEFLATE_URGENT (1u << 0) /* also lowers the target to what stays in the balloon */

enum aero_balloon_state {
	AERO_BALLOON_IDLE = 0, /* actual == target */
	AERO_BALLOON_INFLATING = 1,
	AERO_BALLOON_DEFLATING = 2,
	AERO_BALLOON_BACKOFF = 3, /* cannot inflate now; reason says why; retries by itself */
};

enum aero_balloon_reason {
	AERO_REASON_NONE = 0,
	AERO_REASON_NO_MEMORY = 1, /* the guest has nothing left to give */
	AERO_REASON_NO_SWAP = 2,   /* it would have to page out and has nowhere to */
	AERO_REASON_OOM_GUARD = 3, /* gave back because it would have killed something */
	AERO_REASON_PINNED = 4,
	AERO_REASON_FRAGMENTED = 5,
	AERO_REASON_REFUSED = 6, /* the hypervisor refused pages */
	AERO_REASON_COUNT
};

/* Numbering of virtio-balloon's tags. Bytes for memory, events since boot for the others. */
enum aero_stat {
	AERO_STAT_SWAP_IN = 0,  /* bytes */
	AERO_STAT_SWAP_OUT = 1, /* bytes */
	AERO_STAT_MAJOR_FAULTS = 2,
	AERO_STAT_MINOR_FAULTS = 3,
	AERO_STAT_FREE = 4,
	AERO_STAT_TOTAL = 5, /* what the guest's kernel manages, less the balloon */
	AERO_STAT_AVAILABLE = 6, /* free plus what it can drop without writing */
	AERO_STAT_CACHES = 7,
	AERO_STAT_HUGETLB_ALLOC = 8,
	AERO_STAT_HUGETLB_FAIL = 9,
	AERO_STAT_OOM_KILL = 10,
	AERO_STAT_ALLOC_STALL = 11,
	AERO_STAT_COUNT = 16,
};
#define AERO_STAT_UNKNOWN UINT64_MAX

/*
 * The balloon's private channel: one page of the guest's. Each side writes only its own part; the
 * hypervisor takes the guest's part as hints. Pages are 4 KiB.
 */
#define AERO_BALLOON_MAGIC 0x4c4c4142u /* "BALL" */

struct aero_balloon_page {
	/* written by the hypervisor */
	uint32_t magic;
	uint32_t version;      /* AERO_ABI_MAJOR << 16 | AERO_ABI_MINOR */
	uint64_t generation;   /* moves after each change of target_pages */
	uint64_t target_pages; /* pages that should be in the balloon */
	uint64_t counted_pages; /* pages in it by the hypervisor's count */
	uint64_t stats_request; /* moves when fresh statistics are wanted */
	uint64_t hv_reserved[11];
	/* written by the guest */
	uint64_t seen_generation;
	uint64_t actual_pages; /* by the driver's count */
	uint32_t state;        /* enum aero_balloon_state */
	uint32_t reason;       /* enum aero_balloon_reason */
	uint64_t stats_answered; /* stats_request that stats[] answers */
	uint64_t stats[AERO_STAT_COUNT];
	uint64_t guest_reserved[12];
	uint8_t unused[4096 - 384];
};

enum aero_pressure { AERO_PRESSURE_NONE = 0, AERO_PRESSURE_SOME = 1, AERO_PRESSURE_FULL = 2 };

enum aero_shutdown { AERO_SHUTDOWN_POWEROFF = 0, AERO_SHUTDOWN_REBOOT = 1, AERO_SHUTDOWN_CRASH = 2 };

enum aero_debug {
	AERO_DEBUG_AUDIT = 0,     /* -> problems found by the auditor */
	AERO_DEBUG_SCRUB = 1,     /* (max pages) -> free frames scrubbed now */
	AERO_DEBUG_FREE = 2,      /* -> frames free in the pool */
	AERO_DEBUG_GUEST_PAGES = 3, /* -> frames this guest holds */
};

_Static_assert(sizeof(struct aero_range) == 24, "ABI");
_Static_assert(sizeof(struct aero_block_req) == 24, "ABI");
_Static_assert(sizeof(struct aero_block_info) == 16, "ABI");
_Static_assert(__builtin_offsetof(struct aero_balloon_page, seen_generation) == 128, "ABI");
_Static_assert(__builtin_offsetof(struct aero_balloon_page, stats) == 160, "ABI");
_Static_assert(sizeof(struct aero_balloon_page) == 4096, "ABI");

/*
 * Entry state of a guest's boot processor (docs/abi.md): 64-bit mode, interrupts off, flat
 * segments; CR3 maps the first 1 GiB one to one (2 MiB pages, in memory the guest may reuse once
 * it has its own tables); RIP = the image's ELF entry (its segments are loaded at p_paddr, so
 * e_entry is physical); RSI = gpa of the device tree; RSP = 0. x2APIC is on; xAPIC is not offered.
 */
