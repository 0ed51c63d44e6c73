#include "arch/x86/smp.h"
#include "arch/x86/clock.h"
#include "arch/x86/cpu.h"
#include "arch/x86/dump.h"
#include "arch/x86/hostpt.h"
#include "arch/x86/image.h"
#include "arch/x86/lapic.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/trampoline.h"
#include "arch/x86/traps.h"
#include "mm/heap.h"
#include "vmm/base/bug.h"
#include "vmm/base/cpu.h"
#include "vmm/base/directmap.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"
#include "vmm/platform.h"
#include "vmm/virt.h"

/* The page of code, then three tables that map it where it lies: root, 512 GiB, 1 GiB. */
#define LOW_PAGES     4u
#define LOW_END       0xa0000u
#define INIT_WAIT_US  10000u
#define SIPI_WAIT_US  200u
#define TAKE_WAIT_US  100000u  /* for somebody to take the token */
#define START_WAIT_US 1000000u /* for who took it to be ready */
#define IPI_INIT      0x4500u  /* delivery mode INIT, level assert */
#define IPI_STARTUP   0x4600u
#define CODE64        0x00af9a000000ffffull
#define DATA          0x00cf92000000ffffull

extern const char trampoline_start[], trampoline_end[], trampoline_long[];

/* Set once at boot, by the boot CPU alone. */
static uint8_t *page; /* in the direct map; NULL: no place below 1 MiB */
static uint64_t page_pa;
static const uint32_t *ids;
static uint32_t id_count;
static const char *source;
static struct pcpu *cpus[CPU_MAX] = { &boot_pcpu };
static uint32_t online = 1;
static uint32_t refused[CPU_MAX], refused_count; /* APIC ids of those that came and were left out */
static void (*cpu_main)(void); /* set before `released` */
static bool released;	       /* atomic: all who are ready may go on */

uint32_t platform_cpu_count(void)
{
	return online;
}

uint32_t platform_cpu_apic_id(uint32_t index)
{
	return cpus[index]->apic_id;
}

struct pcpu *smp_cpu(uint32_t index)
{
	return cpus[index];
}

void platform_kick(uint32_t index)
{
	lapic_ipi(cpus[index]->apic_id, VECTOR_KICK);
}

void smp_init(const struct physmap *m, const uint32_t *apic_ids, uint32_t count, const char *found)
{
	ids = apic_ids;
	id_count = count;
	source = found;
	for (uint32_t i = 0; i < m->count; i++) {
		const struct handoff_mem *r = &m->run[i];
		uint64_t base = MAX(r->base, PAGE_BYTES), end = MIN(r->base + r->bytes, LOW_END);

		/* What is below 1 MiB is given to nobody else (vmm/main.c). */
		if (r->type != HANDOFF_MEM_USABLE || end < base + LOW_PAGES * PAGE_BYTES)
			continue;
		page_pa = end - LOW_PAGES * PAGE_BYTES;
		page = hpa_to_va(HPA(page_pa));
		return;
	}
}

static void put_word(uint32_t offset, uint64_t v)
{
	memcpy(page + offset, &v, sizeof(v));
}

/* The hypervisor's tables, and the page's own gigabyte in front of them. */
static void fill_page(void)
{
	uint64_t *root = (void *)(page + PAGE_BYTES), *pdpt = root + 512, *pd = pdpt + 512;
	uint64_t at = page_pa + (uint64_t)(trampoline_long - trampoline_start);

	memcpy(root, hpa_to_va(HPA(read_cr3() & PT_ADDRESS)), PAGE_BYTES);
	memset(pdpt, 0, 2 * PAGE_BYTES);
	root[0] = (page_pa + 2 * PAGE_BYTES) | PT_PRESENT | PT_WRITE;
	pdpt[0] = (page_pa + 3 * PAGE_BYTES) | PT_PRESENT | PT_WRITE;
	pd[0] = PT_PRESENT | PT_WRITE | PT_LARGE;
	memset(page, 0, PAGE_BYTES);
	memcpy(page, trampoline_start, (size_t)(trampoline_end - trampoline_start));
	put_word(TRAMPOLINE_CR3, page_pa + PAGE_BYTES);
	put_word(TRAMPOLINE_GDTR, (page_pa + TRAMPOLINE_GDT) << 16 | (3 * 8 - 1));
	put_word(TRAMPOLINE_GDT + 8, CODE64);
	put_word(TRAMPOLINE_GDT + 16, DATA);
	put_word(TRAMPOLINE_FAR, (at & 0xffffffff) | (uint64_t)SEL_CODE << 32);
}

/* A CPU's own: where it stands, its stacks. On the boot CPU. NULL: no memory. */
static struct pcpu *make_cpu(uint32_t index)
{
	struct pcpu *p = heap_alloc(sizeof(*p));

	if (!p)
		return NULL;
	p->stacks = paging_map_stacks();
	if (!p->stacks) {
		heap_free(p, sizeof(*p));
		return NULL;
	}
	p->stack_top = (uintptr_t)p->stacks->main + STACK_BOOT_BYTES;
	p->index = index;
	return p;
}

/* The first C of another CPU; on its own stack, with the trampoline's tables. */
static _Noreturn void start_here(struct pcpu *p)
{
	const char *why = "";

	desc_load(p);
	paging_cpu_init();
	lapic_cpu_init();
	p->apic_id = lapic_id();
	p->start_tsc = rdtsc();
	status_t s = virt_cpu_init(&why);
	p->why = why;
	uint32_t starting = PCPU_STARTING;

	if (!__atomic_compare_exchange_n(&p->state, &starting, s == OK ? PCPU_ONLINE : PCPU_FAILED,
		    false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED) || s != OK)
		cpu_halt_forever();
	while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
		cpu_relax();
	if (__atomic_load_n(&p->state, __ATOMIC_ACQUIRE) == PCPU_REFUSED)
		cpu_halt_forever();
	cpu_main();
	HV_BUG("CPU %u has nothing to do", p->index);
}

static void *token_exchange(void *v)
{
	return __atomic_exchange_n((void **)(void *)(page + TRAMPOLINE_TOKEN), v, __ATOMIC_SEQ_CST);
}

static bool is_boot_cpu(uint32_t id)
{
	return id == boot_pcpu.apic_id;
}

static void send_all(uint32_t command)
{
	if (!id_count)
		lapic_ipi_others(command);
	for (uint32_t i = 0; i < id_count; i++)
		if (!is_boot_cpu(ids[i]) && ids[i] <= lapic_id_max())
			lapic_ipi(ids[i], command);
}

static void wake_all(void)
{
	uint32_t startup = IPI_STARTUP | (uint32_t)(page_pa >> PAGE_SHIFT);

	send_all(IPI_INIT);
	clock_spin_us(INIT_WAIT_US);
	send_all(startup);
	clock_spin_us(SIPI_WAIT_US);
	send_all(startup);
}

static bool wait_until_taken(struct pcpu *p)
{
	uint64_t end = rdtsc() + platform_ms_to_tsc(TAKE_WAIT_US / 1000);

	token_exchange(p);
	while (__atomic_load_n((void **)(void *)(page + TRAMPOLINE_TOKEN), __ATOMIC_ACQUIRE)) {
		if (rdtsc() > end)
			return token_exchange(NULL) != p;
		cpu_relax();
	}
	return true;
}

/* ONLINE, with a clock that agrees with this CPU's: all of them compare each other's times. */
static bool wait_until_ready(struct pcpu *p, uint64_t before)
{
	uint64_t end = rdtsc() + platform_ms_to_tsc(START_WAIT_US / 1000);
	uint32_t state;

	while ((state = __atomic_load_n(&p->state, __ATOMIC_ACQUIRE)) == PCPU_STARTING) {
		if (rdtsc() > end) {
			log_err("CPU %u began to start and did not come back: left out", p->index);
			__atomic_store_n(&p->state, PCPU_REFUSED, __ATOMIC_RELEASE);
			return false;
		}
		cpu_relax();
	}
	uint64_t after = rdtsc();

	if (state == PCPU_FAILED)
		log_err("CPU with APIC id %u is left out: %s", p->apic_id, p->why);
	else if (p->start_tsc >= before && p->start_tsc <= after)
		return true;
	else
		log_err("CPU with APIC id %u is left out: its time-stamp counter is not the boot CPU's",
			p->apic_id);
	__atomic_store_n(&p->state, PCPU_REFUSED, __ATOMIC_RELEASE);
	return false;
}

/* Whoever came is used, or was left out with a reason. */
static bool has_come(uint32_t id)
{
	for (uint32_t i = 0; i < online; i++)
		if (cpus[i]->apic_id == id)
			return true;
	for (uint32_t i = 0; i < refused_count; i++)
		if (refused[i] == id)
			return true;
	return false;
}

static void report_missing(void)
{
	if (online == CPU_MAX && id_count > CPU_MAX)
		log_warn("no more than %u CPUs are used: others are left out", CPU_MAX);
	for (uint32_t i = 0; i < id_count && online < CPU_MAX; i++)
		if (!has_come(ids[i]))
			log_warn("CPU with APIC id %u did not start: left out", ids[i]);
}

/* One after the other takes its token; those who fail keep theirs and halt. */
static void admit_all(void)
{
	uint32_t tries = id_count ? id_count - 1 : CPU_MAX;

	while (tries-- && online < CPU_MAX) {
		struct pcpu *p = make_cpu(online);
		uint64_t before = rdtsc();

		if (!p) {
			log_err("no memory for the stacks of CPU %u and those after it", online);
			break;
		}
		if (!wait_until_taken(p))
			break;
		if (wait_until_ready(p, before))
			cpus[online++] = p;
		else if (refused_count < CPU_MAX)
			refused[refused_count++] = p->apic_id;
	}
	token_exchange((void *)TRAMPOLINE_GO_AWAY);
}

void platform_cpus_start(void (*main)(void))
{
	cpu_main = main;
	if (id_count == 1)
		return;
	if (!page) {
		log_warn("no memory below 1 MiB to start other CPUs from: this one is used alone");
		return;
	}
	fill_page();
	put_word(TRAMPOLINE_ENTRY, (uintptr_t)start_here);
	wake_all();
	admit_all();
	report_missing();
	if (online > 1)
		log_info("%u CPUs run, as told by %s", online, id_count ? source : "a broadcast");
}

void platform_cpus_release(void)
{
	__atomic_store_n(&released, true, __ATOMIC_RELEASE);
}

/* The NMI's handler halts a CPU once a dump has begun (bug.c). */
void smp_stop_others(void)
{
	if (online > 1)
		lapic_ipi_others(IPI_NMI);
}
