#include "tests/fake/hv.h"

#include "balloon/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm/audit.h"
#include "vmm/block.h"
#include "vmm/exit.h"
#include "vmm/guest_build.h"
#include "vmm/sched.h"

/* The smallest image: one segment with four bytes of code at 1 MiB, and a page of zero after it. */
static struct {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
	struct {
		uint32_t type, flags;
		uint64_t offset, va, pa, file_bytes, mem_bytes, align;
	} segment;
	uint8_t code[64];
} image = {
	.ident = { 0x7f, 'E', 'L', 'F', 2, 1, 1 },
	.type = 2,
	.machine = 62,
	.version = 1,
	.entry = FAKE_HV_ENTRY,
	.phoff = 64,
	.ehsize = 64,
	.phentsize = 56,
	.phnum = 1,
	.segment = { 1, 7, 120, 0x100000, 0x100000, 64, 8192, 8 },
	.code = { "code of the guest" },
};

void fake_hv_start(uint64_t pool_pages)
{
	static bool image_known;

	fake_machine(pool_pages + 4096);
	hv_config = (struct config){ .pool_bytes = pool_pages * PAGE_BYTES,
		.reserve_bytes = FAKE_HV_EMERGENCY * PAGE_BYTES, .disk_index = 1,
		.tax_percent = POLICY_TAX_PERCENT };
	if (frame_pool_init(pool_pages, 2048, FAKE_HV_EMERGENCY) != OK)
		abort();
	fake_disk(1, 65536);
	memcpy(fake_disk_data(1), BLOCK_MAGIC, BLOCK_MAGIC_BYTES);
	block_init(&hv_config);
	sched_init();
	if (!image_known)
		guest_image_add("guest.elf", &image, sizeof(image));
	image_known = true;
	fake_virt_code = NULL;
	fake_virt_no_memory = false;
}

struct config_guest fake_hv_config(const char *name, uint64_t mib)
{
	struct config_guest c = { .kernel = "guest.elf", .cmdline = "quiet",
		.memory_bytes = MIB(mib), .min_bytes = MIB(mib) / 4, .max_bytes = MIB(mib),
		.shares = 1000, .vcpus = 1, .cpu_shares = 1000, .cpus = UINT64_MAX, .disk_bytes = MIB(1),
		.autostart = true };

	snprintf(c.name, sizeof(c.name), "%s", name);
	return c;
}

struct guest *fake_hv_guest(const char *name, uint64_t mib)
{
	struct config_guest c = fake_hv_config(name, mib);
	char error[CONFIG_ERROR_BYTES];
	struct guest *g;

	if (guest_create(&c, &g, error) != OK) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	return g;
}

void fake_hv_destroy_all(void)
{
	while (guest_next(NULL))
		guest_destroy(guest_next(NULL));
}

static struct p2m *nth(void *ctx, uint32_t i)
{
	struct guest *g = guest_next(NULL);

	(void)ctx;
	while (g && i--)
		g = guest_next(g);
	return g ? &g->p2m : NULL;
}

uint64_t fake_hv_audit(void)
{
	struct audit_report report;

	audit_run(nth, NULL, true, &report);
	for (uint64_t i = 0; i < report.problems && i < AUDIT_MESSAGE_MAX; i++)
		fprintf(stderr, "audit: %s\n", report.message[i]);
	return report.problems;
}

int64_t fake_hv_call(struct guest *g, uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	struct vcpu *v = &g->vcpu[0];

	fake_virt_hypercall(fake_vcpu(v->virt), number, a, b, c);
	(void)exit_table[VIRT_EXIT_HYPERCALL](v);
	return (int64_t)v->virt->gpr[VIRT_RAX];
}

void *fake_hv_touch(struct guest *g, uint64_t gpa, uint32_t access)
{
	void *at = fake_guest_access(&g->p2m, GPA(gpa), access);

	for (int i = 0; !at && i < 3; i++) {
		if (p2m_fault(&g->p2m, GPA(gpa), access) != P2M_FAULT_MAPPED)
			return NULL;
		at = fake_guest_access(&g->p2m, GPA(gpa), access);
	}
	return at;
}
