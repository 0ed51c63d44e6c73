/*
 * The hosted processor: a virtual CPU's "code" is a C function of the test's, called by virt_run().
 * Interrupts are a set of vectors; a taken one is what the function finds with fake_virt_take().
 */
#pragma once

#include "vmm/virt.h"

struct fake_vcpu {
	struct virt_vcpu virt; /* first */
	bool interrupts;       /* the guest's interrupt flag; true after virt_boot() in this fake */
	bool parked;
	uint32_t cpl;
	uint8_t pending[256];
	uint64_t timer_tsc; /* UINT64_MAX: off */
	struct virt_boot boot;
	uint32_t run_count, gp_count, ud_count, again_count;
	void *user; /* the test's */
};

static inline struct fake_vcpu *fake_vcpu(struct virt_vcpu *v)
{
	return container_of(v, struct fake_vcpu, virt);
}

/* What a guest does when entered; NULL: halts. Set per test. */
extern enum virt_exit_kind (*fake_virt_code)(struct fake_vcpu *v, uint64_t deadline_tsc);
/* The lowest pending vector, now taken; -1: none or interrupts are off. */
int fake_virt_take(struct fake_vcpu *v);
extern uint32_t fake_virt_live; /* vCPUs created and not destroyed */
extern bool fake_virt_no_memory; /* virt_vcpu_create() fails */

/* Shorthands for code: a hypercall's exit, a memory access's. */
enum virt_exit_kind fake_virt_hypercall(struct fake_vcpu *v, uint64_t number, uint64_t a, uint64_t b,
	uint64_t c);
enum virt_exit_kind fake_virt_fault(struct fake_vcpu *v, uint64_t gpa, uint32_t access);
