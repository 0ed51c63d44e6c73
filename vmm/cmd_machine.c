/* The machine: info, dmesg, uptime, shutdown, reboot, debug. */
#include "mm/heap.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/console_attach.h"
#include "vmm/hv.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"
#include "vmm/sched.h"
#include "vmm/selfcheck.h"
#include "vmm/sharing.h"

static uint64_t table_pages(void)
{
	uint64_t n = 0;

	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		n += g->p2m.table_count;
	return n;
}

static uint64_t boot_ticks(void)
{
	return hv_first_guest_tsc ? hv_first_guest_tsc - hv_entry_tsc : 0;
}

static void info_json(const struct platform_info *p, const struct frame_counts *n)
{
	struct overcommit_stats o;
	struct json j;

	overcommit_stats(&o);
	command_json_begin(&j);
	json_string(&j, "machine", p->emulator);
	json_string(&j, "cpu", p->cpu);
	json_u64(&j, "cpus", platform_cpu_count());
	json_u64(&j, "cpus_found", p->cpu_count);
	json_u64(&j, "tsc_khz", platform_tsc_khz);
	json_string(&j, "virtualisation", virt_caps.name);
	json_string(&j, "mitigations", virt_caps.mitigations);
	json_u64(&j, "ram_bytes", p->ram_bytes);
	json_u64(&j, "pool_pages", n->pool_limit);
	json_u64(&j, "pool_used_pages", n->pool_used);
	json_u64(&j, "pool_free_pages", n->pool_free);
	json_u64(&j, "pool_promised_pages", n->promised);
	json_u64(&j, "pool_emergency_pages", n->emergency);
	json_string(&j, "memory_level", overcommit_level_name(o.level));
	json_u64(&j, "guests", guest_count());
	json_u64(&j, "frame_metadata_bytes", sizeof(struct frame));
	json_u64(&j, "metadata_kib", hv_memory.metadata_bytes >> 10);
	json_u64(&j, "hypervisor_image_kib", hv_memory.image_bytes >> 10);
	json_u64(&j, "hypervisor_heap_kib", heap_used_bytes() >> 10);
	json_u64(&j, "hypervisor_tables_kib", table_pages() * PAGE_BYTES >> 10);
	json_u64(&j, "boot_to_first_guest_ticks", boot_ticks());
	command_json_end(&j);
}

void cmd_info(const struct command_args *a)
{
	struct platform_info p;
	struct frame_counts n;
	struct overcommit_stats o;
	uint64_t promised = 0;
	char s[6][16];

	platform_info(&p);
	frame_counts(&n);
	overcommit_stats(&o);
	if (a->json) {
		info_json(&p, &n);
		return;
	}
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		promised += g->p2m.gfn_count;
	console_printf("machine      %s: %s, %u CPU%s, %lu.%03lu MHz\n", p.emulator, p.cpu, platform_cpu_count(),
		platform_cpu_count() == 1 ? "" : "s", platform_tsc_khz / 1000, platform_tsc_khz % 1000);
	if (platform_cpu_count() < p.cpu_count)
		console_printf("             of %u CPUs: `dmesg` says why the others are left out\n", p.cpu_count);
	console_printf("guests run   by %s\n", virt_caps.name);
	console_printf("mitigations  %s\n", virt_caps.mitigations);
	console_printf("memory       %s of RAM; pool %s: %s used, %s free (state %s), %s in reserve\n",
		format_size(s[0], 16, p.ram_bytes), format_size(s[1], 16, n.pool_limit * PAGE_BYTES),
		format_size(s[2], 16, n.pool_used * PAGE_BYTES),
		format_size(s[3], 16, n.pool_free * PAGE_BYTES), overcommit_level_name(o.level),
		format_size(s[4], 16, n.emergency * PAGE_BYTES));
	console_printf("guests       %u, with %s of memory in all: %llu.%02llu times the pool\n",
		guest_count(), format_size(s[0], 16, promised * PAGE_BYTES),
		promised / MAX(n.pool_limit, 1ull), promised * 100 / MAX(n.pool_limit, 1ull) % 100);
	console_printf("hypervisor   image %s, heap %s, guests' tables %s, frame table %s (%lu bytes a frame)\n",
		format_size(s[0], 16, hv_memory.image_bytes), format_size(s[1], 16, heap_used_bytes()),
		format_size(s[2], 16, table_pages() * PAGE_BYTES),
		format_size(s[3], 16, hv_memory.metadata_bytes), sizeof(struct frame));
}

static void dmesg_line(void *ctx, const char *line, size_t n)
{
	char text[LOG_LINE_BYTES];

	if (!ctx) {
		console_write(line, n);
		return;
	}
	n = MIN(n, sizeof(text) - 1);
	memcpy(text, line, n);
	text[n && text[n - 1] == '\n' ? n - 1 : n] = '\0';
	json_string(ctx, NULL, text);
}

void cmd_dmesg(const struct command_args *a)
{
	struct json j;

	if (!a->json) {
		log_replay(dmesg_line, NULL);
		return;
	}
	command_json_begin(&j);
	json_array(&j, "lines");
	log_replay(dmesg_line, &j);
	json_array_end(&j);
	command_json_end(&j);
}

void cmd_uptime(const struct command_args *a)
{
	uint64_t ms = platform_ns() / 1000000;
	uint64_t idle = sched_idle_tsc() / MAX(platform_tsc_khz, 1ull) / platform_cpu_count();
	struct json j;

	if (a->json) {
		command_json_begin(&j);
		json_u64(&j, "uptime_ms", ms);
		json_u64(&j, "idle_ms", idle);
		command_json_end(&j);
		return;
	}
	console_printf("up %lu.%lu s, idle %lu.%lu s (%llu%%)\n", ms / 1000, ms % 1000 / 100, idle / 1000,
		idle % 1000 / 100, MIN(idle * 100 / MAX(ms, 1ull), 100ull));
}

void cmd_shutdown(const struct command_args *a)
{
	(void)a;
	console_printf("shutting down\n");
	console_flush();
	platform_shutdown(0);
}

void cmd_reboot(const struct command_args *a)
{
	(void)a;
	console_printf("rebooting\n");
	console_flush();
	platform_reboot();
}

/* What compression costs here, and that it works while guests have their state in the registers. */
static void debug_compress(void)
{
	struct selfcheck_page p[SELFCHECK_PAGES];

	if (!selfcheck_compress(p)) {
		command_error("compression does not work here: see dmesg");
		return;
	}
	for (uint32_t i = 0; i < SELFCHECK_PAGES; i++) {
		if (p[i].bytes)
			console_printf("%-10s %5u bytes, compressed in %lu ticks, back in %lu\n", p[i].name,
				p[i].bytes, p[i].compress_ticks, p[i].decompress_ticks);
		else
			console_printf("%-10s does not pay, found in %lu ticks\n", p[i].name,
				p[i].compress_ticks);
	}
}

/* One pass of the scan over all of a guest's pages, at once: what each kind of page costs. */
static void debug_share(const char *name)
{
	struct guest *g = command_guest(name);
	uint64_t count[MERGE_BUSY + 1] = { 0 }, ticks[MERGE_BUSY + 1] = { 0 };
	gfn_t gfn = GFN(0);

	if (!g)
		return;
	while (gfn.v < g->p2m.gfn_count) {
		uint64_t start = platform_tsc();
		enum merge_result r = merge_page(&g->p2m, gfn, true, sharing_p2m_of, &gfn);

		count[r]++;
		ticks[r] += platform_tsc() - start;
		platform_listen();
	}
	for (uint32_t r = 0; r <= MERGE_BUSY; r++)
		if (count[r])
			console_printf("%-10s %6lu pages, %lu ticks each\n", sharing_result_name((enum merge_result)r),
				count[r], ticks[r] / count[r]);
}

void cmd_debug(const struct command_args *a)
{
	if (!strcmp(a->word[0], "compress") && a->count == 1)
		debug_compress();
	else if (!strcmp(a->word[0], "scrub") && a->count == 1)
		console_printf("%lu frames scrubbed\n", frame_scrub(UINT64_MAX));
	else if (!strcmp(a->word[0], "disk") && a->count == 2)
		debug_disk(a->word[1]);
	else if (!strcmp(a->word[0], "share") && a->count == 2)
		debug_share(a->word[1]);
	else if (!strcmp(a->word[0], "reclaim"))
		debug_reclaim(a);
	else if (!strcmp(a->word[0], "latency"))
		debug_latency(a);
	else if (!strcmp(a->word[0], "paging"))
		debug_paging(a);
	else
		command_error("debug: unknown \"%.20s\"; there is: scrub, compress, disk DISK, share GUEST, "
			"reclaim, latency, paging", a->word[0]);
}
