/* The hypervisor's own address space. Built once at boot, then only devices are added. */
#pragma once

#include "arch/x86/physmap.h"
#include "vmm/base/status.h"

/*
 * Builds tables in memory taken from `m` and loads them: the image by segment (W^X), all RAM at
 * HANDOFF_DIRECTMAP (never executable; the image's read-only pages read-only there too). On failure
 * *why says what was missing.
 */
status_t paging_init(const struct handoff *h, struct physmap *m, const char **why) MUST_CHECK;
/* Maps a device's registers uncached; page aligned. NULL: out of table pages. */
volatile void *paging_map_device(hpa_t pa, uint64_t bytes);
/* The registers of another CPU, and this address space. */
void paging_cpu_init(void);
/* Stacks for another CPU, in frames of the hypervisor's, with nothing mapped between them. NULL: no
 * frame or no table page left. On the boot CPU. */
struct boot_stacks;
struct boot_stacks *paging_map_stacks(void);
/* Host physical address of an object in the image. */
hpa_t paging_image_hpa(const void *object);
