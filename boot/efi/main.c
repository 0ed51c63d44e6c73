/*
 * BOOTX64.EFI: reads \aerostat\aerostat.elf, \aerostat\aerostat.dtb and the guest images that the
 * config names, and starts the hypervisor as boot/handoff.h says. Whatever is missing or wrong is
 * one line on the screen and on COM1 that names the file and says what to do.
 */
#include "boot/efi/loader.h"
#include "boot/efi/port.h"

#define HV_FILE     "aerostat.elf"
#define CONFIG_FILE "aerostat.dtb"

static void load_config(struct loader *l)
{
	const char *why;
	uint64_t bytes;
	void *dtb = file_read(l, CONFIG_FILE, HANDOFF_MEM_MODULE,
		"compile a config with dtc and copy it there (boot/run --config FILE.dts does)",
		"", &bytes);

	if (fdtscan(dtb, bytes, &l->config, &why) != OK) {
		if (l->config.node[0][0])
			out_fatal("\\aerostat\\" CONFIG_FILE ": node %a: %a", l->config.node[0], why);
		out_fatal("\\aerostat\\" CONFIG_FILE " is not a usable config: %a", why);
	}
	l->h->config = (uintptr_t)dtb;
	l->h->config_bytes = bytes;
}

static void load_hypervisor(struct loader *l)
{
	const char *why;
	uint64_t bytes;
	void *file = file_read(l, HV_FILE, HANDOFF_MEM_LOADER,
		"build it (make) and copy build/aerostat.elf there", "", &bytes);

	if (elf_parse(file, bytes, &l->elf, &why) != OK)
		out_fatal("\\aerostat\\" HV_FILE " cannot be started: %a; build it again (make)", why);
	place_segments(l, file);
}

static void load_guests(struct loader *l)
{
	for (uint32_t i = 0; i < l->config.kernel_count; i++) {
		struct handoff_module *m = &l->h->modules[i];

		_Static_assert(sizeof(m->name) == sizeof(l->config.kernel[0]), "one name length");
		CopyMem(m->name, l->config.kernel[i], sizeof(m->name));
		m->base = (uintptr_t)file_read(l, m->name, HANDOFF_MEM_MODULE,
			"copy it there; the config names it as kernel of guests/",
			l->config.node[i], &m->bytes);
		l->h->module_count++;
	}
}

static void fill_header(struct handoff *h, uint64_t tsc)
{
	h->magic = HANDOFF_MAGIC;
	h->version = HANDOFF_VERSION;
	h->bytes = sizeof(*h);
	h->loader_tsc = tsc;
	CopyMem(h->loader_version, LOADER_VERSION, sizeof(LOADER_VERSION));
}

/* GNU-EFI's crt0 calls this with the SysV ABI: no EFIAPI. */
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table);
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table)
{
	static struct loader l; /* zero; too large for a stack frame */
	uint64_t tsc = rdtsc();

	InitializeLib(image, table);
	BS->SetWatchdogTimer(0, 0, 0, NULL); /* else the firmware resets after five minutes */
	out_init(image);
	out("\n" LOADER_VERSION "\n");
	machine_check();
	l.image = image;
	file_open_volume(&l);
	l.h = place_pages(&l, sizeof(*l.h), HANDOFF_MEM_LOADER, "hand-over");
	l.stack = place_pages(&l, LOADER_STACK_BYTES, HANDOFF_MEM_LOADER, "stack");
	fill_header(l.h, tsc);
	load_config(&l);
	load_hypervisor(&l);
	load_guests(&l);
	machine_framebuffer(l.h);
	machine_acpi(l.h);
	machine_cpus(&l);
	place_tables(&l, leave_memory_top());
	out("aerostat: %ld KiB hypervisor, %d guest image%a, %d CPU%a\n", l.image_bytes / 1024,
		l.h->module_count, l.h->module_count == 1 ? "" : "s", l.h->cpu_count,
		l.h->cpu_count == 1 ? "" : "s");
	leave(&l);
}
