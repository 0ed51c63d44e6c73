/* A hosted hypervisor: machine, pool, an image called "guest.elf", a marked disk, no guests yet. */
#pragma once

#include "tests/fake/platform.h"
#include "tests/fake/slat.h"
#include "tests/fake/virt.h"
#include "vmm/guest.h"

#define FAKE_HV_ENTRY 0x100010u
#define FAKE_HV_EMERGENCY 64u

/* Once a program, or after all guests are gone. The pool has `pool_pages`, of which FAKE_HV_EMERGENCY
 * are the emergency pages. */
void fake_hv_start(uint64_t pool_pages);
/* A guest of `mib` MiB with a quarter of it guaranteed and a disk of 1 MiB. */
struct config_guest fake_hv_config(const char *name, uint64_t mib);
struct guest *fake_hv_guest(const char *name, uint64_t mib); /* created, or aborts */
void fake_hv_destroy_all(void);
/* Problems that the auditor finds now, zero check included. Prints the first ones. */
uint64_t fake_hv_audit(void);
/* One hypercall of the guest's first vCPU, dispatched as from its exit. Returns rax. */
int64_t fake_hv_call(struct guest *g, uint64_t number, uint64_t a, uint64_t b, uint64_t c);
/* A guest's own access: faults until it is mapped. NULL: it would wait, or nothing is there. */
void *fake_hv_touch(struct guest *g, uint64_t gpa, uint32_t access);
