/*
 * Pure (but for libfdt). The operator's configuration: a device tree, compiled by dtc, copied into
 * plain structs. docs/config.md describes each property. A mistake gives ERR_FORMAT and one
 * sentence that names the node, the property, what was wrong and what would do.
 *
 *   / { compatible = "aerostat,config-1"; pool = "120M"; reserve = "1M"; scrub-idle; debug; swap = "64M";
 *       compressed = "30M"; tax = <75>; sampling = "invalidate"; mitigations = "off"; alloc-fault = <100>;
 *       disk-fault = "read 5";
 *       disk { index = <1>; };
 *       guests { vm { count = <10>; memory = "16M"; min = "4M"; max = "16M"; shares = <1000>;
 *                     vcpus = <2>; cpu-shares = <1000>; cpus = "0-3,5"; kernel = "guest.elf"; disk = "32M";
 *                     cmdline = "..."; share = "web"; deadline = <2000>; dynamic; noauto; debug; }; }; };
 *
 * `count = <n>` makes n guests named vm0 .. vm(n-1). Sizes are strings (a bare number: KiB) or
 * cells (bytes).
 */
#pragma once

#include "vmm/base/status.h"
#include "vmm/disk_fault.h"

#define CONFIG_GUEST_MAX     64
#define CONFIG_VCPU_MAX      8 /* of one guest */
#define CONFIG_NAME_BYTES    24
#define CONFIG_KERNEL_BYTES  64
#define CONFIG_CMDLINE_BYTES 128
#define CONFIG_SHARE_BYTES   16

struct config_guest {
	char name[CONFIG_NAME_BYTES]; /* letters, digits, - and _ */
	char kernel[CONFIG_KERNEL_BYTES];
	char cmdline[CONFIG_CMDLINE_BYTES];
	/* what it believes it has; 4 MiB .. 64 GiB, 2 MiB aligned; of a dynamic guest: its max */
	uint64_t memory_bytes;
	uint64_t min_bytes;    /* guaranteed; default memory / 4 */
	uint64_t max_bytes;    /* never holds more; default memory; min <= max <= memory */
	uint32_t shares;       /* of memory: 1 .. 100000, default 1000 */
	uint32_t vcpus;        /* 1 .. CONFIG_VCPU_MAX, default 1 */
	uint32_t cpu_shares;   /* of the CPUs: the same as shares */
	uint64_t cpus;         /* mask of the CPUs that it may run on; default all */
	uint64_t disk_bytes;   /* 0: none */
	/* `share = "none"`, "own" (the default) or a group's name: whose equal pages may lie in one frame */
	char share[CONFIG_SHARE_BYTES];
	uint16_t share_group;  /* a number for the group, 1 ..; 0: its own pages only, or none */
	bool share_none;
	bool autostart;        /* not `noauto` */
	bool debug;            /* may use AERO_HC_DEBUG */
	/* `dynamic;`: begins with start_bytes (its `memory`), the rest in its balloon, and grows and shrinks
	 * with its demand */
	bool dynamic;
	uint64_t start_bytes;  /* of any other: memory_bytes */
	uint32_t deadline_ms;  /* so long it may hold more than it should; then the ladder takes it; 0: never */
	bool huge;             /* `huge;`: populate 2 MiB at a time while the pool is roomy */
};

/* How a guest's accesses are seen: docs/reclaim.md, "Who uses what he has". */
enum config_sampling {
	CONFIG_SAMPLING_ACCESSED,   /* by accessed bits, or, where there are none, as below; the default */
	CONFIG_SAMPLING_INVALIDATE, /* by taking mappings away */
	CONFIG_SAMPLING_OFF,
};

struct config {
	uint64_t pool_bytes;    /* UINT64_MAX: all there is */
	uint64_t reserve_bytes; /* emergency pages inside the pool; default 1 MiB */
	bool scrub_idle;        /* default true; `no-scrub-idle;` */
	bool debug_commands;    /* `debug;` */
	uint32_t tax_percent;   /* on idle memory: 0 .. 99, default 0 */
	uint32_t sampling;      /* enum config_sampling */
	uint32_t mitigations;   /* enum virt_mitigations (vmm/virt.h) */
	uint32_t alloc_fault;   /* the how manieth frame allocation of those for the guests fails; 0: none */
	struct disk_fault_wish disk_fault; /* what the first requests to that disk meet */
	uint64_t swap_bytes;    /* of that disk, at its end; 0: no swap */
	/* the compressed store holds at most; UINT64_MAX: a quarter of the pool if there is swap; 0: off */
	uint64_t compressed_bytes;
	uint32_t disk_index;    /* platform disk for guests' regions; UINT32_MAX: none */
	uint32_t guest_count;
	struct config_guest guest[CONFIG_GUEST_MAX];
};

#define CONFIG_ERROR_BYTES 200

/* `error` gets the sentence when the result is not OK. Never reads outside [dtb, dtb + bytes). */
status_t config_parse(const void *dtb, uint64_t bytes, struct config *out,
	char error[CONFIG_ERROR_BYTES]) MUST_CHECK;
