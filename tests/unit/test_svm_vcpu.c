/*
 * ASIDs and flushes of a SVM vCPU against a model of a tagged TLB, which no emulator here has: no
 * entry may meet a translation that another vCPU left under its ASID, or one of its own from before
 * a flush that it was promised.
 */
#include "tests/fake/x86_cpu.h"

#include "arch/x86/svm/svm_vcpu.c"

#include "tests/unit/unit.h"

#define VCPUS     6u
#define ASIDS_MAX 8u

struct svm_caps svm_caps;
void *svm_msrpm, *svm_iopm;
uint32_t svm_clean;

void *heap_alloc(size_t bytes)
{
	return bytes >= PAGE_BYTES ? aligned_alloc(PAGE_BYTES, bytes) : calloc(1, bytes);
}

void heap_free(void *p, size_t bytes)
{
	(void)bytes;
	free(p);
}

void lapic_timer_arm(uint64_t now_tsc, uint64_t ticks)
{
	(void)now_tsc;
	assert_int_not_equal(ticks, 0); /* 0 would never fire */
}

void x86_inject(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length)
{
	v->event_info = info | X86_EVENT_VALID;
	v->event_error = error;
	v->event_length = length;
}

/* Who left translations under each ASID, and how many flushes that one had been promised then. */
static struct {
	uint32_t vcpu; /* + 1; 0: nothing there */
	uint64_t promised;
} tlb[ASIDS_MAX];

static struct virt_cpu cpu;
static struct svm_cpu own;
static struct slat_space space;
static struct svm_vcpu vcpu[VCPUS];
static uint64_t promised[VCPUS];

static void machine(uint32_t asid_count, bool by_asid)
{
	memset(&cpu, 0, sizeof(cpu));
	memset(vcpu, 0, sizeof(vcpu));
	memset(promised, 0, sizeof(promised));
	own = (struct svm_cpu){ .asids.count = asid_count };
	cpu.backend = &own;
	fake_pcpu.virt = &cpu;
	svm_caps = (struct svm_caps){ .asid_count = asid_count, .flush_by_asid = by_asid };
	/* What the firmware or an earlier use left: somebody else's, everywhere. */
	for (uint32_t i = 0; i < ASIDS_MAX; i++) {
		tlb[i].vcpu = UINT32_MAX;
		tlb[i].promised = 0;
	}
}

static void boot_one(uint32_t i)
{
	struct x86_vcpu *x = &vcpu[i].x;
	memset(&vcpu[i], 0, sizeof(vcpu[i]));
	x->virt.slat = &space;
	x->stop_tsc = UINT64_MAX / 2;
	assert_int_equal(svm_create(x), OK);
	svm_load(x);
	svm_boot(x);
	svm_set(x, X86_EFER, EFER_LME | EFER_LMA);
	svm_flush_guest(x);
	promised[i]++;
	x->attention = X86_ATTENTION_LOAD;
}

static void stop_one(uint32_t i)
{
	if (cpu.loaded == &vcpu[i].x)
		cpu.loaded = NULL;
	svm_destroy(&vcpu[i].x);
	vcpu[i].vmcb = NULL;
}

/* As the run loop does: loaded, its time set, entered; and what VMRUN does to a TLB. */
static void run_one(uint32_t i, bool prepare, bool space_changed)
{
	struct svm_vmcb *c = vcpu[i].vmcb;
	struct x86_vcpu *x = &vcpu[i].x;
	if (x->attention & X86_ATTENTION_LOAD) {
		x->attention = 0;
		svm_load(x);
		prepare = true;
	}
	assert_ptr_equal(cpu.loaded, x);
	if (prepare)
		svm_set_time(x, 0);
	if (space_changed) { /* what the entry finds out by itself */
		svm_flush_guest(x);
		promised[i]++;
	}
	assert_in_range(c->asid, 1, own.asids.count - 1);
	if (c->tlb_control == SVM_TLB_FLUSH_ALL)
		memset(tlb, 0, sizeof(tlb));
	else if (c->tlb_control == SVM_TLB_FLUSH_ASID)
		tlb[c->asid].vcpu = 0;
	else
		assert_int_equal(c->tlb_control, SVM_TLB_KEEP);
	if (tlb[c->asid].vcpu != 0) {
		assert_int_equal(tlb[c->asid].vcpu, i + 1);
		assert_int_equal(tlb[c->asid].promised, promised[i]);
	}
	tlb[c->asid].vcpu = i + 1;
	tlb[c->asid].promised = promised[i];
	c->tlb_control = SVM_TLB_KEEP;
}

static void random_life(uint32_t asid_count, bool by_asid, uint64_t seed)
{
	machine(asid_count, by_asid);
	for (uint32_t i = 0; i < VCPUS; i++)
		boot_one(i);
	for (uint32_t round = 0; round < 20000; round++) {
		uint32_t i = (uint32_t)(test_random(&seed) % VCPUS);
		switch (test_random(&seed) % 8) {
		case 0:
			svm_load(&vcpu[i].x); /* the console looks at it */
			break;
		case 1:
		case 2:
			svm_load(&vcpu[i].x);
			svm_flush_guest(&vcpu[i].x);
			promised[i]++;
			break;
		case 3:
			if (test_random(&seed) % 8 == 0) {
				stop_one(i);
				boot_one(i);
			}
			break;
		default:
			run_one(i, test_random(&seed) & 1, test_random(&seed) % 4 == 0);
		}
	}
	for (uint32_t i = 0; i < VCPUS; i++)
		stop_one(i);
}

static void no_stale_translation_is_ever_met(void **state)
{
	(void)state;
	for (uint32_t count = 2; count <= ASIDS_MAX; count++) {
		random_life(count, false, count);
		random_life(count, true, count + 100);
	}
}

static void changes_are_not_claimed_clean(void **state)
{
	(void)state;
	static const struct {
		enum x86_field f;
		uint32_t bit;
	} rows[] = {
		{ X86_CR0, SVM_CLEAN_CR }, { X86_CR3, SVM_CLEAN_CR }, { X86_CR4, SVM_CLEAN_CR },
		{ X86_EFER, SVM_CLEAN_CR }, { X86_CR2, SVM_CLEAN_CR2 }, { X86_DR6, SVM_CLEAN_DR },
		{ X86_DR7, SVM_CLEAN_DR }, { X86_PAT, SVM_CLEAN_NP },
	};
	machine(8, true);
	boot_one(0);
	assert_int_equal(vcpu[0].vmcb->clean, 0); /* a new block */
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		vcpu[0].vmcb->clean = SVM_CLEAN_ALL;
		svm_set(&vcpu[0].x, rows[i].f, 0);
		assert_false(vcpu[0].vmcb->clean & rows[i].bit);
		assert_int_equal(svm_get(&vcpu[0].x, rows[i].f), 0);
	}
	vcpu[0].vmcb->clean = SVM_CLEAN_ALL;
	svm_set_window(&vcpu[0].x, true);
	assert_int_equal(vcpu[0].vmcb->clean,
		SVM_CLEAN_ALL & ~(SVM_CLEAN_INTERCEPTS | SVM_CLEAN_TPR));
	assert_true(vcpu[0].vmcb->int_ctl & SVM_V_IRQ);
	stop_one(0);
}

static void svme_is_set_and_never_seen(void **state)
{
	(void)state;
	machine(8, true);
	boot_one(0);
	assert_true(vcpu[0].vmcb->efer & EFER_SVME);
	assert_int_equal(svm_get(&vcpu[0].x, X86_EFER), EFER_LME | EFER_LMA);
	stop_one(0);
}

static void events_of_instructions_are_executed_again(void **state)
{
	(void)state;
	machine(8, true);
	boot_one(0);
	struct x86_vcpu *x = &vcpu[0].x;
	svm_keep_event(&vcpu[0], X86_EVENT_VALID | SVM_EVENT_SOFT | 0x80);
	svm_keep_event(&vcpu[0], X86_EVENT_VALID | X86_EVENT_EXCEPTION | VECTOR_BP);
	assert_int_equal(x->event_info, 0);
	vcpu[0].vmcb->exit_int_error = 5;
	svm_keep_event(&vcpu[0], X86_EVENT_VALID | X86_EVENT_EXCEPTION | X86_EVENT_ERROR | X86_PF);
	assert_int_equal(x->event_info,
		X86_EVENT_VALID | X86_EVENT_EXCEPTION | X86_EVENT_ERROR | X86_PF);
	assert_int_equal(x->event_error, 5);
	stop_one(0);
}

static void a_stepped_guest_traps_after_what_was_done_for_it(void **state)
{
	(void)state;
	machine(8, true);
	boot_one(0);
	struct svm_vmcb *c = vcpu[0].vmcb;
	c->rip = 0x1000;
	c->next_rip = 0x1002;
	c->interrupt_shadow = 1;
	c->rflags |= RFLAGS_TF;
	svm_skip(&vcpu[0].x);
	assert_int_equal(c->rip, 0x1002);
	assert_int_equal(c->interrupt_shadow, 0);
	assert_int_equal(vcpu[0].x.event_info, X86_EVENT_VALID | X86_EVENT_EXCEPTION | X86_DB);
	assert_true(c->dr6 & DR6_BS);
	svm_rewind(&vcpu[0].x);
	assert_int_equal(c->rip, 0x1000);
	assert_int_equal(vcpu[0].x.event_info, 0);
	stop_one(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_stale_translation_is_ever_met),
		cmocka_unit_test(changes_are_not_claimed_clean),
		cmocka_unit_test(svme_is_set_and_never_seen),
		cmocka_unit_test(events_of_instructions_are_executed_again),
		cmocka_unit_test(a_stepped_guest_traps_after_what_was_done_for_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
