/*
 * What the loader hands to the hypervisor. Version and size are checked first; every address is
 * host physical. All of it lies in memory of type HANDOFF_MEM_LOADER, which the hypervisor may
 * reclaim once it has copied what it needs.
 *
 * Machine state at the hypervisor's entry point (ELF e_entry, a virtual address):
 *   long mode, paging on, interrupts off, flat 64-bit CS and data segments, no IDT to rely on;
 *   CR3 maps the ELF segments at their p_vaddr with their own rights (W^X), and all memory in the
 *   map at HANDOFF_DIRECTMAP + address (2 MiB or 1 GiB pages, RW, NX) from 0 up to at least 4 GiB;
 *   RDI = address of struct handoff in the direct map (a pointer that can be used as it is);
 *   RSP = a stack of at least 16 KiB in the direct map.
 * The hypervisor loads its own GDT, IDT, and page tables at once and needs nothing else.
 */
#pragma once

#include <stdint.h>

#define HANDOFF_MAGIC     0x464f484154534f41ull /* "AOSTAHOF", little-endian */
#define HANDOFF_VERSION   1u
#define HANDOFF_DIRECTMAP 0xffff800000000000ull
#define HANDOFF_HV_BASE   0xffffffff80000000ull /* where linker.ld puts the image */

enum handoff_mem_type {
	HANDOFF_MEM_USABLE = 1,   /* free for the hypervisor (conventional, boot services) */
	HANDOFF_MEM_LOADER = 2,   /* this structure, loader's page tables and stack: reclaimable */
	HANDOFF_MEM_HV_IMAGE = 3, /* the hypervisor's segments */
	HANDOFF_MEM_MODULE = 4,   /* config and guest images */
	HANDOFF_MEM_ACPI = 5,     /* ACPI tables, readable, never reused */
	HANDOFF_MEM_RESERVED = 6, /* firmware, runtime services, bad memory */
	HANDOFF_MEM_MMIO = 7,
};

/* Sorted by base, not overlapping, page aligned, neighbours of one type merged. */
struct handoff_mem {
	uint64_t base;
	uint64_t bytes;
	uint32_t type; /* enum handoff_mem_type */
	uint32_t reserved;
};

#define HANDOFF_NAME_BYTES 64

/* A file that the config names, e.g. "guest.elf" (the name as the config spells it). */
struct handoff_module {
	char name[HANDOFF_NAME_BYTES]; /* NUL-terminated */
	uint64_t base;                 /* page aligned */
	uint64_t bytes;                /* file length */
};

struct handoff_cpu {
	uint32_t apic_id;
	uint32_t flags; /* HANDOFF_CPU_* */
};
#define HANDOFF_CPU_ENABLED 1u
#define HANDOFF_CPU_BOOT    2u

struct handoff_framebuffer {
	uint64_t base; /* 0: none */
	uint64_t bytes;
	uint32_t width, height, pixels_per_line;
	uint32_t format; /* EFI_GRAPHICS_PIXEL_FORMAT */
};

/* One PT_LOAD segment of the image, so that the hypervisor can map itself again. */
struct handoff_segment {
	uint64_t va;
	uint64_t pa;
	uint64_t bytes; /* page aligned */
	uint32_t flags; /* ELF PF_X 1, PF_W 2, PF_R 4 */
	uint32_t reserved;
};

#define HANDOFF_SEGMENT_MAX 8
#define HANDOFF_MODULE_MAX  16

struct handoff {
	uint64_t magic;
	uint32_t version;
	uint32_t bytes; /* sizeof(struct handoff) of the loader's build */
	uint64_t mem_map;   /* struct handoff_mem[mem_count] */
	uint32_t mem_count;
	uint32_t cpu_count; /* 0: unknown, find out */
	uint64_t cpus;      /* struct handoff_cpu[cpu_count] */
	uint64_t acpi_rsdp; /* 0: none */
	uint64_t config;    /* flattened device tree */
	uint64_t config_bytes;
	uint64_t loader_tsc; /* RDTSC when the loader was entered */
	struct handoff_framebuffer framebuffer;
	uint32_t segment_count;
	uint32_t module_count;
	struct handoff_segment segments[HANDOFF_SEGMENT_MAX];
	struct handoff_module modules[HANDOFF_MODULE_MAX];
	char loader_version[32];
};
