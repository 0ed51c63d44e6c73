/*
 * A back end of struct virt_ops on the host, and what vcpu.c, vcpu_exit.c and run_loop.h make of its
 * exits. Its guest is a script: each entry takes the next step. The third back end to look at before
 * writing a fourth (docs/backends.md).
 */
#include "tests/fake/x86_cpu.h"

#include "arch/x86/guard.c"
#include "arch/x86/vcpu.c"
#include "arch/x86/vcpu_exit.c"
#include "arch/x86/vcpu_ipi.c"

#include "arch/x86/run_loop.h"
#include "tests/unit/unit.h"

/* ---- the back end ------------------------------------------------------------------------------ */

#define INSN_BYTES 3u

/* One entry: what the guest does before it exits, and how it exits. */
struct step {
	enum x86_exit_kind kind;
	void (*prepare)(struct x86_vcpu *v); /* registers and v->info of this exit; may be NULL */
};

struct pcpu *smp_cpu(uint32_t index)
{
	(void)index;
	return &fake_pcpu;
}

static const struct step *script;
static uint32_t entries, flushes, times_set, loads, live_moves;
static uint64_t field[X86_FIELD_COUNT];
static bool interruptible = true, window;
static uint32_t injected[8], injected_error[8], injected_count;
static bool no_backend;

static enum x86_exit_kind be_enter(struct x86_vcpu **v)
{
	const struct step *s = &script[entries++];
	if (s->prepare != NULL)
		s->prepare(*v);
	return s->kind;
}

static void be_skip(struct x86_vcpu *v)
{
	(void)v;
	field[X86_RIP] += INSN_BYTES;
}

static void be_rewind(struct x86_vcpu *v)
{
	(void)v;
	field[X86_RIP] -= INSN_BYTES;
}

static bool be_in_kernel(struct x86_vcpu *v)
{
	(void)v;
	return field[X86_CPL] == 0;
}

static const struct virt_ops be_hot = { .enter = be_enter, .skip = be_skip,
	.in_kernel = be_in_kernel };

static enum virt_exit_kind be_run(struct x86_vcpu *v, uint64_t deadline)
{
	return guard_plan.guarded ? x86_run_loop(v, deadline, &be_hot, false, true) :
				    x86_run_loop(v, deadline, &be_hot, false, false);
}

static status_t be_cpu_on(struct virt_cpu *cpu, const char **why)
{
	(void)why;
	cpu->backend = field;
	return OK;
}

static status_t be_create(struct x86_vcpu *v)
{
	(void)v;
	return OK;
}

static void be_destroy(struct x86_vcpu *v)
{
	(void)v;
}

static void be_boot(struct x86_vcpu *v)
{
	(void)v;
	memset(field, 0, sizeof(field));
}

static uint32_t started_at; /* vector of the last start-up, + 1; 0: none */

static void be_start(struct x86_vcpu *v, uint8_t vector)
{
	(void)v;
	started_at = vector + 1u;
}

static void be_load(struct x86_vcpu *v)
{
	struct virt_cpu *cpu = virt_this_cpu();
	loads += cpu->loaded != v;
	if (cpu->loaded != NULL && cpu->loaded != v)
		x86_attend(cpu->loaded, X86_ATTENTION_LOAD);
	cpu->loaded = v;
}

static uint64_t be_get(struct x86_vcpu *v, enum x86_field f)
{
	(void)v;
	return field[f];
}

static void be_set(struct x86_vcpu *v, enum x86_field f, uint64_t value)
{
	(void)v;
	field[f] = value;
}

static void be_set_time(struct x86_vcpu *v, uint64_t now)
{
	(void)v;
	(void)now;
	times_set++;
}

static bool be_can_interrupt(struct x86_vcpu *v)
{
	(void)v;
	return interruptible;
}

static void be_clear_shadow(struct x86_vcpu *v)
{
	(void)v;
}

static void be_set_window(struct x86_vcpu *v, bool on)
{
	(void)v;
	window = on;
}

static void be_inject(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length)
{
	(void)v;
	(void)length;
	assert_in_range(injected_count, 0, 7);
	injected[injected_count] = info;
	injected_error[injected_count++] = error;
}

static void be_flush_guest(struct x86_vcpu *v)
{
	(void)v;
	flushes++;
}

static const struct virt_ops be_ops = {
	.caps = { .name = "fake", .features = "none", .hypercall_kind = AERO_CALL_VMCALL },
	.vcpu_bytes = sizeof(struct x86_vcpu), .rdtscp = true, .cpu_on = be_cpu_on, .run = be_run,
	.create = be_create, .destroy = be_destroy, .boot = be_boot, .start = be_start, .load = be_load, .get = be_get,
	.set = be_set, .skip = be_skip, .rewind = be_rewind, .set_time = be_set_time,
	.can_interrupt = be_can_interrupt, .clear_shadow = be_clear_shadow,
	.set_window = be_set_window, .inject = be_inject, .flush_guest = be_flush_guest,
};

/* ---- what else arch has ------------------------------------------------------------------------- */

status_t vmx_probe(const struct virt_ops **out, const char **why)
{
	(void)out;
	*why = "";
	return ERR_NOENT;
}

status_t svm_probe(const struct virt_ops **out, const char **why)
{
	*why = "";
	*out = &be_ops;
	return no_backend ? ERR_NOENT : OK;
}

void *heap_alloc(size_t bytes)
{
	return calloc(1, bytes);
}

void heap_free(void *p, size_t bytes)
{
	(void)bytes;
	free(p);
}

bool guest_mce_handle(void)
{
	return false;
}

void vcpu_live_init(void)
{
}

void vcpu_live_reset(struct x86_vcpu *v)
{
	v->xcr0 = XCR0_X87;
}

void vcpu_live_save(struct x86_vcpu *v)
{
	(void)v;
	live_moves++;
}

void vcpu_live_load(struct x86_vcpu *v)
{
	(void)v;
	live_moves++;
}

/* ---- the tests ---------------------------------------------------------------------------------- */

#define ENTRY     0x1000u
#define FAR_AWAY  (rdtsc() + (1ull << 40))
#define GP_EVENT  (X86_EVENT_VALID | X86_EVENT_EXCEPTION | X86_EVENT_ERROR | X86_GP)
#define UD_EVENT  (X86_EVENT_VALID | X86_EVENT_EXCEPTION | X86_UD)
#define STOP      { X86_EXIT_SHUTDOWN, NULL }

static struct slat_space space;
static struct virt_vcpu *vcpu;

static enum virt_mitigations mode;

static int start(void **state)
{
	const char *why;
	(void)state;
	no_backend = false;
	if (virt_init(mode, &why) != OK || virt_vcpu_create(1, 0, 1, &space, &vcpu) != OK)
		return 1;
	virt_boot(vcpu, &(struct virt_boot){ .entry = ENTRY });
	field[X86_RFLAGS] |= RFLAGS_IF;
	entries = flushes = times_set = injected_count = loads = live_moves = 0;
	interruptible = true;
	window = false;
	return 0;
}

static int stop(void **state)
{
	(void)state;
	virt_vcpu_destroy(vcpu);
	return 0;
}

static void play(const struct step *steps, enum virt_exit_kind up)
{
	script = steps;
	entries = 0;
	assert_int_equal(virt_run(vcpu, FAR_AWAY), up);
	assert_int_equal(vcpu->exit.kind, up);
}

static void at(uint32_t instructions)
{
	assert_int_equal(field[X86_RIP], ENTRY + INSN_BYTES * instructions);
}

static uint64_t msr_number, msr_value;

static void use_msr(struct x86_vcpu *v)
{
	v->virt.gpr[VIRT_RCX] = msr_number;
	v->virt.gpr[VIRT_RAX] = (uint32_t)msr_value;
	v->virt.gpr[VIRT_RDX] = msr_value >> 32;
}

static void write_guest_msr(uint32_t msr, uint64_t value)
{
	static const struct step steps[] = { { X86_EXIT_MSR_WRITE, use_msr }, STOP };
	msr_number = msr;
	msr_value = value;
	play(steps, VIRT_EXIT_SHUTDOWN);
}

static uint64_t read_guest_msr(uint32_t msr)
{
	static const struct step steps[] = { { X86_EXIT_MSR_READ, use_msr }, STOP };
	msr_number = msr;
	msr_value = 0;
	play(steps, VIRT_EXIT_SHUTDOWN);
	return (uint32_t)vcpu->gpr[VIRT_RAX] | vcpu->gpr[VIRT_RDX] << 32;
}

static void ask_cpuid(struct x86_vcpu *v)
{
	v->virt.gpr[VIRT_RAX] = AERO_CPUID_BASE;
	v->virt.gpr[VIRT_RCX] = 0;
}

static void cpuid_is_answered_below(void **state)
{
	(void)state;
	static const struct step steps[] = { { X86_EXIT_CPUID, ask_cpuid }, STOP };
	play(steps, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(vcpu->gpr[VIRT_RBX], AERO_CPUID_EBX);
	assert_int_equal(vcpu->count[VIRT_COUNT_CPUID], 1);
	at(1);
}

static void hypercalls_go_up_from_the_kernel_only(void **state)
{
	(void)state;
	static const struct step call[] = { { X86_EXIT_HYPERCALL, NULL } };
	static const struct step two[] = { { X86_EXIT_HYPERCALL, NULL }, STOP };
	play(call, VIRT_EXIT_HYPERCALL);
	at(1);
	virt_hypercall_again(vcpu);
	at(0);
	field[X86_CPL] = 3;
	play(two, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected[0], UD_EVENT);
	at(0);
}

static void msrs(void **state)
{
	(void)state;
	write_guest_msr(MSR_LSTAR, 0xffff800000001000ull);
	assert_int_equal(field[X86_LSTAR], 0xffff800000001000ull);
	at(1);
	assert_int_equal(read_guest_msr(MSR_LSTAR), 0xffff800000001000ull);
	write_guest_msr(MSR_TSC_AUX, 7);
	assert_int_equal(read_guest_msr(MSR_TSC_AUX), 7);
	assert_int_equal(read_guest_msr(MSR_EFER), EFER_LME | EFER_LMA);
	assert_int_equal(injected_count, 0);
	write_guest_msr(MSR_LSTAR, 1ull << 50); /* not canonical */
	assert_int_equal(injected[0], GP_EVENT);
	assert_int_equal(injected_error[0], 0);
	(void)read_guest_msr(0x12345);
	assert_int_equal(injected[1], GP_EVENT);
	at(5);
}

static void port_in(struct x86_vcpu *v)
{
	v->virt.gpr[VIRT_RAX] = 0x11223344;
	v->info.io.bytes = 2;
	v->info.io.in = true;
	v->info.io.string = false;
}

static void port_string(struct x86_vcpu *v)
{
	v->info.io.string = true;
}

static void ports_lead_nowhere(void **state)
{
	(void)state;
	static const struct step in[] = { { X86_EXIT_IO, port_in }, STOP };
	static const struct step string[] = { { X86_EXIT_IO, port_string }, STOP };
	play(in, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(vcpu->gpr[VIRT_RAX], 0x1122ffff);
	play(string, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected[0], GP_EVENT);
	at(1);
}

static void an_interrupt_waits_for_its_window(void **state)
{
	(void)state;
	static const struct step closed[] = { { X86_EXIT_NOTHING, NULL }, STOP };
	static const struct step open[] = { { X86_EXIT_WINDOW, NULL }, STOP };
	write_guest_msr(0x80f, 0x1ff); /* software enable */
	interruptible = false;
	virt_raise(vcpu, 0x41);
	play(closed, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected_count, 0);
	assert_true(window);
	interruptible = true;
	play(open, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected_count, 1);
	assert_int_equal(injected[0], X86_EVENT_VALID | X86_EVENT_EXTERNAL | 0x41);
	assert_false(window);
	assert_int_equal(vcpu->count[VIRT_COUNT_INJECTED], 1);
}

static void cut_short(struct x86_vcpu *v)
{
	v->event_info = X86_EVENT_VALID | X86_EVENT_EXTERNAL | 0x41;
	x86_attend(v, X86_ATTENTION_EVENT);
}

static void what_was_cut_short_is_delivered_again(void **state)
{
	(void)state;
	static const struct step fault[] = { { X86_EXIT_SLAT_FAULT, cut_short } };
	static const struct step end[] = { STOP };
	write_guest_msr(0x80f, 0x1ff);
	virt_raise(vcpu, 0x41);
	play(fault, VIRT_EXIT_SLAT_FAULT);
	assert_int_equal(injected_count, 1);
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected_count, 2);
	assert_int_equal(injected[1], injected[0]);
	/* But if the access leads nowhere, the exception goes first and the interrupt waits again. */
	virt_raise(vcpu, 0x41);
	write_guest_msr(0x80b, 0); /* EOI of the first */
	injected_count = 0;
	play(fault, VIRT_EXIT_SLAT_FAULT);
	virt_inject_gp(vcpu);
	interruptible = false;
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected[injected_count - 1], GP_EVENT);
	assert_true(window);
}

static void halted(void **state)
{
	(void)state;
	static const struct step hlt[] = { { X86_EXIT_HALT, NULL }, STOP };
	play(hlt, VIRT_EXIT_HALT);
	at(1);
	assert_false(virt_has_work(vcpu, rdtsc()));
	write_guest_msr(0x80f, 0x1ff);
	virt_raise(vcpu, 0x50);
	assert_true(virt_has_work(vcpu, rdtsc()));
	/* With interrupts off nothing wakes it. */
	field[X86_RFLAGS] &= ~RFLAGS_IF;
	interruptible = false;
	play(hlt, VIRT_EXIT_HALT);
	assert_false(virt_has_work(vcpu, UINT64_MAX));
	assert_int_equal(virt_wake_tsc(vcpu), UINT64_MAX);
}

/* The halt is done, and what the interrupt brought is looked at all the same. */
static void interrupted_in_front_of_a_halt(void **state)
{
	(void)state;
	static const struct step hlt[] = { { X86_EXIT_INTERRUPT_AT_HALT, NULL }, STOP };
	play(hlt, VIRT_EXIT_HALT);
	at(1);
	assert_false(virt_has_work(vcpu, rdtsc()));
	write_guest_msr(0x80f, 0x1ff);
	virt_raise(vcpu, 0x50);
	interruptible = false; /* it is awake, and has not taken it yet */
	play(hlt, VIRT_EXIT_HOST_EVENT);
	at(3); /* one is write_guest_msr()'s */
	assert_true(virt_has_work(vcpu, rdtsc()));
	assert_int_equal(vcpu->count[VIRT_COUNT_HOST_INTERRUPT], 2);
	assert_int_equal(vcpu->count[VIRT_COUNT_HALT], 2);
}

static void spins(struct x86_vcpu *v)
{
	field[X86_RIP] = ENTRY;
	(void)v;
}

/* PAUSE has not been executed, and will be. */
static void a_loop_around_pause_goes_up(void **state)
{
	(void)state;
	static const struct step loop[] = { { X86_EXIT_SPIN, spins }, STOP };
	play(loop, VIRT_EXIT_SPIN);
	at(0);
	assert_int_equal(vcpu->count[VIRT_COUNT_SPIN], 1);
	assert_string_equal(virt_counter_name(VIRT_COUNT_SPIN), "pause-loop");
}

static uint32_t cr_number;
static uint64_t cr_value;

static void use_cr(struct x86_vcpu *v)
{
	v->info.cr.cr = (uint8_t)cr_number;
	v->info.cr.write = true;
	v->info.cr.value = cr_value;
}

static void read_cr4_to_rbx(struct x86_vcpu *v)
{
	v->info.cr.cr = 4;
	v->info.cr.write = false;
	v->info.cr.gpr = VIRT_RBX;
}

static bool cr_write_is_refused(uint32_t cr, uint64_t value)
{
	static const struct step steps[] = { { X86_EXIT_CR, use_cr }, STOP };
	injected_count = 0;
	cr_number = cr;
	cr_value = value;
	play(steps, VIRT_EXIT_SHUTDOWN);
	return injected_count == 1 && injected[0] == GP_EVENT;
}

static void control_registers(void **state)
{
	(void)state;
	static const struct step read[] = { { X86_EXIT_CR, read_cr4_to_rbx }, STOP };
	assert_false(cr_write_is_refused(0, CR0_PE | CR0_PG | CR0_WP));
	assert_int_equal(field[X86_CR0], CR0_PE | CR0_PG | CR0_WP | CR0_ET);
	assert_true(cr_write_is_refused(0, CR0_PE));
	assert_true(cr_write_is_refused(0, CR0_PE | CR0_PG | CR0_NW));
	assert_true(cr_write_is_refused(4, 0));
	assert_true(cr_write_is_refused(4, CR4_PAE | CR4_VMXE));
	flushes = 0;
	assert_false(cr_write_is_refused(4, CR4_PAE | CR4_PGE));
	assert_int_equal(flushes, 1);
	play(read, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(vcpu->gpr[VIRT_RBX], CR4_PAE | CR4_PGE);
	assert_true(cr_write_is_refused(8, 16));
	assert_false(cr_write_is_refused(8, 3));
}

static uint64_t xcr0_value;

static void use_xcr0(struct x86_vcpu *v)
{
	v->virt.gpr[VIRT_RCX] = 0;
	v->virt.gpr[VIRT_RAX] = xcr0_value;
	v->virt.gpr[VIRT_RDX] = 0;
}

static void xsetbv_obeys_what_is_offered(void **state)
{
	(void)state;
	static const struct step steps[] = { { X86_EXIT_XSETBV, use_xcr0 }, STOP };
	xcr0_value = 7;
	play(steps, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(fake_xcr0, 7);
	assert_int_equal(injected_count, 0);
	xcr0_value = 4; /* AVX without SSE and x87 */
	play(steps, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected[0], GP_EVENT);
	assert_int_equal(fake_xcr0, 7);
}

static void single_step(struct x86_vcpu *v)
{
	v->info.exception.info = X86_EVENT_EXCEPTION | X86_DB;
	v->info.exception.dr6 = 1u << 14;
}

static void exceptions_go_back(void **state)
{
	(void)state;
	static const struct step steps[] = { { X86_EXIT_EXCEPTION, single_step }, STOP };
	field[X86_DR7] = 1u << 13;
	field[X86_DR6] = 0;
	play(steps, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(injected[0], X86_EVENT_VALID | X86_EVENT_EXCEPTION | X86_DB);
	assert_int_equal(field[X86_DR6], 1u << 14);
	assert_int_equal(field[X86_DR7], 0); /* GD */
}

static void changed_code_runs_again_after_a_flush(void **state)
{
	(void)state;
	static const struct step steps[] = { { X86_EXIT_AGAIN, NULL }, { X86_EXIT_AGAIN, NULL }, STOP };
	flushes = 0;
	play(steps, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(flushes, 2);
	at(0);
	assert_int_equal(injected_count, 0);
}

static void a_deadline_that_has_passed(void **state)
{
	(void)state;
	script = NULL;
	entries = 0;
	assert_int_equal(virt_run(vcpu, rdtsc() - 1), VIRT_EXIT_DEADLINE);
	assert_int_equal(entries, 0);
	/* An exit never comes between setting the time and the entry that it is for. */
	static const struct step steps[] = { STOP };
	times_set = 0;
	play(steps, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(times_set, 1);
}

static void machine_checks_end_the_guest(void **state)
{
	(void)state;
	static const struct step steps[] = { { X86_EXIT_MACHINE_CHECK, NULL } };
	play(steps, VIRT_EXIT_FAILED);
	assert_non_null(strstr(vcpu->exit.text, "machine check"));
}

static void two_vcpus_take_turns(void **state)
{
	(void)state;
	static const struct step end[] = { STOP };
	struct virt_vcpu *first = vcpu, *second;
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(virt_vcpu_create(2, 0, 1, &space, &second), OK);
	loads = live_moves = 0;
	vcpu = second;
	play(end, VIRT_EXIT_SHUTDOWN);
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(live_moves, 2); /* the first's saved, the second's loaded: once */
	vcpu = first;
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(live_moves, 4);
	assert_int_equal(loads, 1);
	virt_vcpu_destroy(second);
}

static struct virt_vcpu *woken;

static void note_woken(struct virt_vcpu *v)
{
	woken = v;
}

static void write_icr(struct virt_vcpu *from, uint64_t icr)
{
	struct x86_vcpu *v = x86_vcpu(from);
	woken = NULL;
	assert_true(vlapic_write(&v->lapic, VLAPIC_ICR, icr, 0));
	x86_send_ipi(v);
}

/* INIT and start-up, in the right order and the wrong one; interrupts between vCPUs. */
static void one_starts_another(void **state)
{
	(void)state;
	static const struct step end[] = { STOP };
	struct virt_vcpu *first = vcpu, *second, *peers[2];
	assert_int_equal(virt_vcpu_create(1, 1, 2, &space, &second), OK);
	peers[0] = first;
	peers[1] = second;
	first->peers = second->peers = peers;
	first->peer_count = second->peer_count = 2;
	virt_wake_hook = note_woken;
	virt_park(second);
	started_at = 0;
	/* Parked: interrupts do not wake it, nor does another INIT. */
	virt_raise(second, 0x50);
	assert_false(virt_has_work(second, rdtsc()));
	write_icr(first, 1ull << 32 | 0x4500);
	assert_ptr_equal(woken, second);
	assert_false(virt_has_work(second, rdtsc()));
	assert_int_equal(virt_run(second, FAR_AWAY), VIRT_EXIT_HALT);
	assert_int_equal(virt_wake_tsc(second) == UINT64_MAX, true);
	/* The first start-up counts. */
	write_icr(first, 1ull << 32 | 0x4608);
	write_icr(first, 1ull << 32 | 0x4609);
	assert_ptr_equal(woken, NULL); /* it had been asked already */
	assert_true(virt_has_work(second, rdtsc()));
	vcpu = second;
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(started_at, 9);
	assert_int_equal(field[X86_CR0], CR0_CD | CR0_NW | CR0_ET);
	assert_int_equal(field[X86_EFER], 0);
	assert_int_equal(field[X86_PAT], PAT_DEFAULT); /* INIT leaves it, whatever boot() does */
	/* It runs: a start-up is of no effect, an interrupt is. */
	started_at = 0;
	write_icr(first, 3u << 18 | 0x4608);
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(started_at, 0);
	assert_true(vlapic_write(&x86_vcpu(second)->lapic, VLAPIC_SVR, 0x1ff, 0));
	write_icr(first, 1ull << 32 | 0x51);
	assert_ptr_equal(woken, second);
	assert_true(virt_has_work(second, rdtsc()));
	write_icr(second, 1u << 18 | 0x52); /* to itself: nobody needs to be woken */
	assert_ptr_equal(woken, NULL);
	/* A start-up that it has not ignored yet neither wakes it from HLT nor keeps an interrupt from it. */
	assert_true(vlapic_write(&x86_vcpu(second)->lapic, VLAPIC_SVR, 0xff, 0));
	write_icr(first, 1ull << 32 | 0x4608);
	assert_false(virt_has_work(second, rdtsc()));
	assert_true(vlapic_write(&x86_vcpu(second)->lapic, VLAPIC_SVR, 0x1ff, 0));
	assert_true(virt_has_work(second, rdtsc()));
	/* INIT stops it in the middle of everything, what was pending is gone, and so are its breakpoints. */
	x86_vcpu(second)->dr[2] = 0x1234;
	write_icr(first, 1ull << 32 | 0x4500);
	assert_true(virt_has_work(second, rdtsc()));
	assert_int_equal(virt_run(second, FAR_AWAY), VIRT_EXIT_HALT);
	assert_false(virt_has_work(second, rdtsc()));
	assert_int_equal(x86_vcpu(second)->dr[2], 0);
	write_icr(first, 1ull << 32 | 0x4601);
	assert_int_equal(vlapic_pending(&x86_vcpu(second)->lapic), VLAPIC_NONE);
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(started_at, 2);
	/* The vector is that of the first start-up behind the last INIT. */
	write_icr(first, 1ull << 32 | 0x4608);
	write_icr(first, 1ull << 32 | 0x4500);
	write_icr(first, 1ull << 32 | 0x460a);
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_int_equal(started_at, 0xb);
	/* What came while it waited is not there when it starts. */
	write_icr(first, 1ull << 32 | 0x4500);
	assert_int_equal(virt_run(second, FAR_AWAY), VIRT_EXIT_HALT);
	write_icr(first, 1ull << 32 | 0x53);
	assert_false(virt_has_work(second, rdtsc()));
	write_icr(first, 1ull << 32 | 0x4601);
	play(end, VIRT_EXIT_SHUTDOWN);
	assert_true(vlapic_write(&x86_vcpu(second)->lapic, VLAPIC_SVR, 0x1ff, 0));
	assert_int_equal(vlapic_pending(&x86_vcpu(second)->lapic), VLAPIC_NONE);
	virt_wake_hook = NULL;
	first->peers = NULL;
	vcpu = first;
	virt_vcpu_destroy(second);
}

/* APM vol. 3, CPUID Fn8000_0008 EBX bit 2, RstrFpErrPtrs; CVE-2006-1056. */
static void whose_x87_pointers_leak(void **state)
{
	const struct cpuid_regs amd = { 0xd, 0x68747541, 0x444d4163, 0x69746e65 },
		hygon = { 0xd, 0x6f677948, 0x656e6975, 0x6e65476e }, intel = { 0xd, 0x756e6547, 0x6c65746e,
			0x49656e69 };
	(void)state;
	assert_true(vcpu_live_leaks_x87(&amd, 0));
	assert_true(vcpu_live_leaks_x87(&amd, ~4u));
	assert_false(vcpu_live_leaks_x87(&amd, 4));
	assert_true(vcpu_live_leaks_x87(&hygon, 0));
	assert_false(vcpu_live_leaks_x87(&hygon, 4));
	assert_false(vcpu_live_leaks_x87(&intel, 0));
}

/* From real mode to long mode, and what is refused on the way. */
static void modes(void **state)
{
	(void)state;
	struct x86_vcpu *v = x86_vcpu(vcpu);
	field[X86_CR0] = CR0_ET;
	field[X86_CR4] = field[X86_EFER] = 0;
	assert_false(write_cr(v, 0, CR0_PG));		    /* without PE */
	assert_false(write_cr(v, 0, CR0_PE | CR0_PG));	    /* not to long mode */
	x86_inject_gp(v); /* real mode: without its error code */
	assert_int_equal(v->event_info, X86_EVENT_VALID | X86_EVENT_EXCEPTION | X86_GP);
	v->cpuid.cr4_allowed |= CR4_PCIDE;
	assert_false(write_cr(v, 4, CR4_PAE | CR4_PCIDE)); /* not before long mode */
	assert_true(write_cr(v, 0, CR0_PE));
	x86_inject_gp(v);
	assert_int_equal(v->event_info,
		X86_EVENT_VALID | X86_EVENT_ERROR | X86_EVENT_EXCEPTION | X86_GP);
	v->event_info = 0;
	assert_true(load_efer(v, EFER_LME));
	assert_int_equal(field[X86_EFER], EFER_LME);
	assert_false(write_cr(v, 0, CR0_PE | CR0_PG)); /* without PAE */
	assert_true(write_cr(v, 4, CR4_PAE));
	assert_true(write_cr(v, 0, CR0_PE | CR0_PG));
	assert_int_equal(field[X86_EFER], EFER_LME | EFER_LMA);
	assert_true(write_cr(v, 4, CR4_PAE | CR4_PCIDE));
	assert_false(write_cr(v, 0, CR0_PE));	       /* and never back */
	assert_false(write_cr(v, 4, 0));
	assert_false(load_efer(v, EFER_LMA));	       /* LME stays while paging is on */
	assert_true(load_efer(v, EFER_LME | EFER_NXE)); /* LMA is not the guest's to write */
	assert_int_equal(field[X86_EFER], EFER_LME | EFER_LMA | EFER_NXE);
}

static void flushes_are_counted_and_seen(void **state)
{
	(void)state;
	uint64_t before = space.generation;
	slat_flush(&space);
	assert_int_equal(space.generation, before + 1);
}

/* The loop of a processor that needs it all: a flush at each turn's first entry, a barrier where guests change. */
static void barriers(void **state)
{
	(void)state;
	const struct step call[] = { { X86_EXIT_CPUID, ask_cpuid }, { X86_EXIT_CPUID, ask_cpuid },
		{ X86_EXIT_HYPERCALL, NULL } };
	const uint64_t flush = (uint64_t)MSR_FLUSH_CMD << 32 | 1, ibpb = (uint64_t)MSR_PRED_CMD << 32 | 1;
	struct virt_vcpu *other, *first = vcpu;
	play(call, VIRT_EXIT_HYPERCALL); /* the ordinary loop: nothing */
	assert_int_equal(fake_barrier_count, 0);
	stop(NULL);
	fake_speculates = true;
	assert_int_equal(start(NULL), 0);
	first = vcpu;
	assert_true(guard_plan.guarded);
	assert_non_null(strstr(virt_caps.mitigations, "ibpb verw l1d-flush"));
	play(call, VIRT_EXIT_HYPERCALL);
	assert_int_equal(fake_barrier_count, 2);
	assert_true(fake_barriers[0] == ibpb && fake_barriers[1] == flush);
	play(call, VIRT_EXIT_HYPERCALL);
	assert_int_equal(fake_barrier_count, 3);
	assert_true(fake_barriers[2] == flush);
	/* Another vCPU of the same guest, then one of another guest, then the first again. */
	assert_int_equal(virt_vcpu_create(1, 1, 2, &space, &other), OK);
	vcpu = other;
	play(call, VIRT_EXIT_HYPERCALL);
	assert_int_equal(fake_barrier_count, 4);
	virt_vcpu_destroy(other);
	assert_int_equal(virt_vcpu_create(2, 0, 1, &space, &other), OK);
	vcpu = other;
	play(call, VIRT_EXIT_HYPERCALL);
	assert_int_equal(fake_barrier_count, 6);
	assert_true(fake_barriers[4] == ibpb);
	vcpu = first;
	play(call, VIRT_EXIT_HYPERCALL);
	assert_int_equal(fake_barrier_count, 8);
	assert_true(fake_barriers[6] == ibpb);
	virt_vcpu_destroy(other);
	stop(NULL);
	mode = VIRT_MITIGATIONS_OFF;
	assert_int_equal(start(NULL), 0);
	play(call, VIRT_EXIT_HYPERCALL);
	assert_int_equal(fake_barrier_count, 8);
	mode = VIRT_MITIGATIONS_AUTO;
	fake_speculates = false;
}

static void nobody_to_run_guests(void **state)
{
	(void)state;
	const char *why = "";
	no_backend = true;
	assert_int_equal(virt_init(VIRT_MITIGATIONS_AUTO, &why), ERR_NOSYS);
	assert_non_null(strstr(why, "neither VMX (Intel VT-x) nor SVM (AMD-V)"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
		TEST(cpuid_is_answered_below), TEST(hypercalls_go_up_from_the_kernel_only), TEST(msrs),
		TEST(ports_lead_nowhere), TEST(an_interrupt_waits_for_its_window),
		TEST(what_was_cut_short_is_delivered_again), TEST(halted), TEST(interrupted_in_front_of_a_halt),
		TEST(a_loop_around_pause_goes_up),
		TEST(control_registers),
		TEST(xsetbv_obeys_what_is_offered), TEST(exceptions_go_back),
		TEST(changed_code_runs_again_after_a_flush), TEST(a_deadline_that_has_passed),
		TEST(machine_checks_end_the_guest), TEST(two_vcpus_take_turns),
		TEST(one_starts_another),
		TEST(modes),
		TEST(flushes_are_counted_and_seen), TEST(barriers), TEST(whose_x87_pointers_leak),
			cmocka_unit_test(nobody_to_run_guests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
