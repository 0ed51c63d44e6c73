#include "tests/fake/virt.h"

#include <stdlib.h>
#include <string.h>

void (*virt_wake_hook)(struct virt_vcpu *v);
struct virt_caps virt_caps = { .name = "fake", .features = "none", .mitigations = "none" };
enum virt_exit_kind (*fake_virt_code)(struct fake_vcpu *v, uint64_t deadline_tsc);
uint32_t fake_virt_live;
bool fake_virt_no_memory;

status_t virt_init(enum virt_mitigations mode, const char **why)
{
	(void)mode;
	*why = "";
	return OK;
}

status_t virt_cpu_init(const char **why)
{
	*why = "";
	return OK;
}

status_t virt_vcpu_create(uint32_t guest_id, uint32_t vcpu_id, uint32_t vcpu_count,
	struct slat_space *slat, struct virt_vcpu **out)
{
	(void)vcpu_count;
	struct fake_vcpu *v = fake_virt_no_memory ? NULL : calloc(1, sizeof(*v));

	if (!v)
		return ERR_NOMEM;
	v->virt.guest_id = guest_id;
	v->virt.vcpu_id = vcpu_id;
	v->virt.slat = slat;
	v->timer_tsc = UINT64_MAX;
	fake_virt_live++;
	*out = &v->virt;
	return OK;
}

void virt_vcpu_destroy(struct virt_vcpu *v)
{
	fake_virt_live--;
	free(fake_vcpu(v));
}

void virt_boot(struct virt_vcpu *v, const struct virt_boot *boot)
{
	fake_vcpu(v)->boot = *boot;
	fake_vcpu(v)->interrupts = true;
}

enum virt_exit_kind virt_run(struct virt_vcpu *v, uint64_t deadline_tsc)
{
	struct fake_vcpu *f = fake_vcpu(v);

	f->run_count++;
	v->exit.kind = fake_virt_code ? fake_virt_code(f, deadline_tsc) : VIRT_EXIT_HALT;
	return (enum virt_exit_kind)v->exit.kind;
}

void virt_put(struct virt_vcpu *v)
{
	(void)v;
}

void virt_park(struct virt_vcpu *v)
{
	fake_vcpu(v)->parked = true;
}

void virt_several_cpus(void)
{
}

void virt_raise(struct virt_vcpu *v, uint8_t vector)
{
	__atomic_store_n(&fake_vcpu(v)->pending[vector], 1, __ATOMIC_SEQ_CST);
}

static int lowest_pending(const struct fake_vcpu *f)
{
	for (int i = 0; i < 256; i++) {
		if (__atomic_load_n(&f->pending[i], __ATOMIC_SEQ_CST))
			return i;
	}
	return -1;
}

int fake_virt_take(struct fake_vcpu *v)
{
	int vector = v->interrupts ? lowest_pending(v) : -1;

	if (vector >= 0)
		__atomic_store_n(&v->pending[vector], 0, __ATOMIC_SEQ_CST);
	return vector;
}

bool virt_has_work(struct virt_vcpu *v, uint64_t now_tsc)
{
	return lowest_pending(fake_vcpu(v)) >= 0 || fake_vcpu(v)->timer_tsc <= now_tsc;
}

bool virt_interruptible(struct virt_vcpu *v)
{
	return fake_vcpu(v)->interrupts;
}

uint64_t virt_wake_tsc(const struct virt_vcpu *v)
{
	return container_of(v, const struct fake_vcpu, virt)->timer_tsc;
}

void virt_hypercall_again(struct virt_vcpu *v)
{
	fake_vcpu(v)->again_count++;
}

void virt_inject_gp(struct virt_vcpu *v)
{
	fake_vcpu(v)->gp_count++;
}

void virt_inject_ud(struct virt_vcpu *v)
{
	fake_vcpu(v)->ud_count++;
}

void virt_get_state(struct virt_vcpu *v, struct virt_state *out)
{
	memset(out, 0, sizeof(*out));
	memcpy(out->gpr, v->gpr, sizeof(out->gpr));
	out->rip = 0x100000;
	out->rflags = fake_vcpu(v)->interrupts ? 0x202 : 2;
	out->cpl = fake_vcpu(v)->cpl;
}

const char *virt_counter_name(enum virt_counter c)
{
	static const char *const names[VIRT_COUNTERS] = { "cpuid", "msr-read", "msr-write", "io",
		"hypercall", "slat-fault", "halt", "host-interrupt", "timer", "window", "exception",
		"nmi", "other", "injected" };

	return (uint32_t)c < VIRT_COUNTERS ? names[c] : "?";
}

enum virt_exit_kind fake_virt_hypercall(struct fake_vcpu *v, uint64_t number, uint64_t a, uint64_t b,
	uint64_t c)
{
	v->virt.gpr[VIRT_RAX] = number;
	v->virt.gpr[VIRT_RDI] = a;
	v->virt.gpr[VIRT_RSI] = b;
	v->virt.gpr[VIRT_RDX] = c;
	return VIRT_EXIT_HYPERCALL;
}

enum virt_exit_kind fake_virt_fault(struct fake_vcpu *v, uint64_t gpa, uint32_t access)
{
	v->virt.exit.slat.gpa = GPA(gpa);
	v->virt.exit.slat.access = access;
	return VIRT_EXIT_SLAT_FAULT;
}
