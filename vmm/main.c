/*
 * From the machine's bare map to running guests: memory, configuration, virtualisation, the pool,
 * the guests, the console, the scheduler. What cannot work says so in one sentence and ends.
 */
#include "arch/x86/arch.h"
#include "mm/compress.h"
#include "mm/heap.h"
#include "vmm/base/directmap.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/block.h"
#include "vmm/ladder.h"
#include "vmm/console.h"
#include "vmm/guest_build.h"
#include "vmm/hv.h"
#include "vmm/platform.h"
#include "vmm/sched.h"
#include "vmm/selfcheck.h"
#include "vmm/sharing.h"

/* RAM below stays RESERVED: firmware leaves things there, and other CPUs will start from there. */
#define LOW_MEMORY MIB(1)
/* Kept out of the pool for the heap: each guest's structures and virtual CPU, and some to spare. */
#define HEAP_PAGES_BASE  256u
#define HEAP_PAGES_GUEST 24u

struct hv_memory hv_memory;

/* In the machine's units; the buffer is good until the next call with the same `slot`. */
static const char *size_text(uint32_t slot, uint64_t bytes)
{
	static char text[4][16];

	return format_size(text[slot % 4], sizeof(text[0]), bytes);
}

static bool is_ram(uint32_t type)
{
	return type == HANDOFF_MEM_USABLE || type == HANDOFF_MEM_LOADER ||
		type == HANDOFF_MEM_HV_IMAGE || type == HANDOFF_MEM_MODULE;
}

static _Noreturn void memory_error(const char *what)
{
	log_err("cannot start: %s", what);
	platform_shutdown(1);
}

/* A run of frame metadata is cut from the end of the largest usable run. Returns which. */
static uint32_t place_metadata(const struct handoff_mem *map, uint32_t count, uint64_t bytes)
{
	uint32_t best = count;

	for (uint32_t i = 0; i < count; i++) {
		if (map[i].type == HANDOFF_MEM_USABLE && map[i].base >= LOW_MEMORY &&
			(best == count || map[i].bytes > map[best].bytes))
			best = i;
	}
	if (best == count || map[best].bytes <= bytes)
		memory_error("no run of memory is large enough for the frame table");
	return best;
}

/* One run of the map into the frame table. The first MiB stays RESERVED. */
static void add_run(const struct handoff_mem *m, uint64_t metadata_bytes)
{
	uint64_t base = MAX(m->base, LOW_MEMORY), end = m->base + m->bytes;

	if (!is_ram(m->type) || end <= base)
		return;
	mfn_t first = hpa_to_mfn(HPA(base));
	uint64_t pages = (end - base) / PAGE_BYTES, held = metadata_bytes / PAGE_BYTES;

	switch (m->type) {
	case HANDOFF_MEM_HV_IMAGE:
		hv_memory.image_bytes += m->bytes;
		frame_claim(first, pages);
		break;
	case HANDOFF_MEM_MODULE:
		hv_memory.module_bytes += m->bytes;
		frame_claim(first, pages);
		break;
	default:
		frame_add(first, pages - held);
		if (held)
			frame_claim(mfn_add(first, pages - held), held);
	}
}

static void memory_init(const struct handoff_mem *map, uint32_t count)
{
	uint64_t top = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (is_ram(map[i].type))
			top = MAX(top, map[i].base + map[i].bytes);
	}
	uint64_t frames = top / PAGE_BYTES;
	uint64_t bytes = ALIGN_UP(frames * sizeof(struct frame), PAGE_BYTES);
	uint32_t home = place_metadata(map, count, bytes);
	hpa_t at = HPA(map[home].base + map[home].bytes - bytes);

	hv_memory.metadata_bytes = bytes;
	frame_init(hpa_to_va(at), MFN(0), frames);
	for (uint32_t i = 0; i < count; i++)
		add_run(&map[i], i == home ? bytes : 0);
}

static void config_init(const struct handoff *h)
{
	char error[CONFIG_ERROR_BYTES];

	if (config_parse(hpa_to_va(HPA(h->config)), h->config_bytes, &hv_config, error) != OK) {
		log_err("cannot start: the configuration: %s", error);
		platform_shutdown(1);
	}
	for (uint32_t i = 0; i < h->module_count; i++)
		guest_image_add(h->modules[i].name, hpa_to_va(HPA(h->modules[i].base)),
			h->modules[i].bytes);
}

static void virtualisation_init(void)
{
	const char *why = "";

	if (virt_init((enum virt_mitigations)hv_config.mitigations, &why) != OK) {
		log_err("cannot run guests here: %s", why);
		platform_shutdown(1);
	}
	log_info("%s: %s", virt_caps.name, virt_caps.features);
	log_info("mitigations: %s", virt_caps.mitigations);
}

/* For the control plane, who alone evicts; any CPU decompresses. */
static void compression_init(void)
{
	if (compress_init(1) != OK) {
		log_warn("no memory for compression: it is off");
		return;
	}
	struct selfcheck_page tried[SELFCHECK_PAGES];

	if (selfcheck_compress(tried))
		log_info("compression: LZ4, checked");
	else
		compress_off();
}

static void pool_init(void)
{
	uint64_t pages = hv_config.pool_bytes == UINT64_MAX ? UINT64_MAX :
		hv_config.pool_bytes / PAGE_BYTES;
	uint64_t emergency = hv_config.reserve_bytes / PAGE_BYTES;
	struct frame_counts n;

	frame_counts(&n);
	uint64_t free = n.by_state[FRAME_DIRTY] + n.by_state[FRAME_FREE];
	uint64_t heap = HEAP_PAGES_BASE + HEAP_PAGES_GUEST * MAX(hv_config.guest_count, 16u) +
		ladder_heap_pages(&hv_config) + sharing_heap_pages(MIN(pages, free));

	if (frame_pool_init(pages, heap, emergency) != OK) {
		log_warn("the pool of %s does not fit: %s are free, %s of them for the hypervisor; "
			"guests get the rest", size_text(0, pages * PAGE_BYTES),
			size_text(1, free * PAGE_BYTES), size_text(2, heap * PAGE_BYTES));
		if (frame_pool_init(UINT64_MAX, heap, emergency) != OK)
			memory_error("there is not enough memory for any pool");
	}
	frame_counts(&n);
	log_info("memory: pool %s with %s in reserve, %s for the hypervisor's heap, frame table %s",
		size_text(0, n.pool_limit * PAGE_BYTES), size_text(1, n.emergency * PAGE_BYTES),
		size_text(2, heap * PAGE_BYTES), size_text(3, hv_memory.metadata_bytes));
}

/* Now: without what it allocated before there would be no hypervisor that could say what failed. */
static void arm_faults(void)
{
	if (!hv_config.alloc_fault)
		return;
	frame_fault_set(hv_config.alloc_fault, 1);
	log_warn("alloc-fault: of the frame allocations from here on, number %u will fail",
		hv_config.alloc_fault);
}

/* Before the disk is first read: its header, for one, may be what cannot be. */
static void arm_disk_fault(void)
{
	const struct disk_fault_wish *w = &hv_config.disk_fault;

	if (w->fault == DISK_FAULT_NONE)
		return;
	if (platform_disk_inject(hv_config.disk_index, w->fault, w->count, w->delay_ms) == OK)
		log_warn("disk-fault: the first %u requests to disk %u meet: %s", w->count, hv_config.disk_index,
			disk_fault_name(w->fault));
	else
		log_warn("disk-fault: there is no disk %u", hv_config.disk_index);
}

static void start_guests(void)
{
	char error[CONFIG_ERROR_BYTES];
	uint64_t sum = 0;

	for (uint32_t i = 0; i < hv_config.guest_count; i++) {
		const struct config_guest *c = &hv_config.guest[i];

		if (!c->autostart)
			continue;
		if (guest_create(c, NULL, error) == OK)
			sum += c->memory_bytes;
		else
			log_err("not started: %s", error);
	}
	log_info("%u guests with %s of memory in all", guest_count(), size_text(0, sum));
}

_Noreturn void hv_main(const struct handoff *h, const struct handoff_mem *map)
{
	struct platform_info info;

	hv_entry_tsc = platform_tsc();
	platform_info(&info);
	log_info("Aerostat on %s: %s, %u CPU%s, %s of memory", info.emulator, info.cpu,
		info.cpu_count, info.cpu_count == 1 ? "" : "s", size_text(0, info.ram_bytes));
	memory_init(map, h->mem_count);
	config_init(h);
	virtualisation_init();
	platform_cpus_start(sched_cpu_main);
	if (platform_cpu_count() > 1)
		virt_several_cpus();
	compression_init();
	pool_init();
	arm_disk_fault();
	block_init(&hv_config);
	ladder_init(&hv_config);
	sharing_init();
	sched_init();
	arm_faults();
	start_guests();
	sched_set_poll(console_poll);
	console_init();
	platform_cpus_release();
	sched_loop();
}
