#include "vmm/guest_build.h"

#include <libfdt.h>

#include "boot/handoff.h"
#include "mm/heap.h"
#include "vmm/base/elf.h"
#include "vmm/base/fmt.h"
#include "vmm/base/string.h"

static struct image {
	char name[CONFIG_KERNEL_BYTES];
	const void *data;
	uint64_t bytes;
} images[HANDOFF_MODULE_MAX]; /* set once at boot */
static uint32_t image_count;  /* set once at boot */

void guest_image_add(const char *name, const void *image, uint64_t bytes)
{
	if (image_count == HANDOFF_MODULE_MAX)
		return;
	struct image *i = &images[image_count++];

	str_copy(i->name, sizeof(i->name), name);
	i->data = image;
	i->bytes = bytes;
}

static const struct image *find_image(const char *name)
{
	for (uint32_t i = 0; i < image_count; i++) {
		if (strcmp(images[i].name, name) == 0)
			return &images[i];
	}
	return NULL;
}

/* Segments go to their physical addresses; what is not in the file reads as zero already. */
static status_t load_segments(struct guest *g, const struct image *image,
	const struct elf_image *elf, const char **why)
{
	uint64_t memory = g->p2m.gfn_count * PAGE_BYTES;

	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segment[i];

		if (s->pa < GUEST_BUILD_BYTES) {
			*why = "it wants to lie in the first 64 KiB, which hold the boot tables";
			return ERR_FORMAT;
		}
		if (s->mem_bytes > memory || s->pa > memory - s->mem_bytes) {
			*why = "it does not fit the guest's memory";
			return ERR_FORMAT;
		}
		status_t st = p2m_copy_to(&g->p2m, GPA(s->pa),
			(const char *)image->data + s->file_offset, s->file_bytes);

		if (st != OK) {
			*why = "there is no memory for it now";
			return st;
		}
	}
	return OK;
}

/* One to one, the first 1 GiB, in 2 MiB pages (SDM vol. 3A, "4-Level Paging"). */
static status_t write_page_tables(struct guest *g)
{
	enum { PRESENT = 1, WRITE = 2, LARGE = 128, TABLES = 3 };
	uint64_t *t = heap_alloc(TABLES * PAGE_BYTES);

	if (!t)
		return ERR_NOMEM;
	t[0] = (GUEST_BUILD_PML4 + PAGE_BYTES) | PRESENT | WRITE;
	t[512] = (GUEST_BUILD_PML4 + 2 * PAGE_BYTES) | PRESENT | WRITE;
	for (uint64_t i = 0; i < 512; i++)
		t[1024 + i] = i << 21 | PRESENT | WRITE | LARGE;
	status_t s = p2m_copy_to(&g->p2m, GPA(GUEST_BUILD_PML4), t, TABLES * PAGE_BYTES);

	heap_free(t, TABLES * PAGE_BYTES);
	return s;
}

static void put_u32s(void *fdt, int *err, const char *name, const uint32_t *v, int count)
{
	fdt32_t cell[4];

	for (int i = 0; i < count; i++)
		cell[i] = cpu_to_fdt32(v[i]);
	if (*err == 0)
		*err = fdt_property(fdt, name, cell, count * (int)sizeof(cell[0]));
}

static void put_text(void *fdt, int *err, const char *name, const char *text)
{
	if (*err == 0)
		*err = fdt_property(fdt, name, text, (int)strlen(text) + 1);
}

static void begin(void *fdt, int *err, const char *name)
{
	if (*err == 0)
		*err = fdt_begin_node(fdt, name);
}

static void end(void *fdt, int *err)
{
	if (*err == 0)
		*err = fdt_end_node(fdt);
}

static void put_nodes(void *fdt, int *err, const struct guest *g)
{
	uint64_t memory = g->config.memory_bytes;

	begin(fdt, err, "");
	put_u32s(fdt, err, "#address-cells", (const uint32_t[]){ 2 }, 1);
	put_u32s(fdt, err, "#size-cells", (const uint32_t[]){ 2 }, 1);
	put_text(fdt, err, "compatible", "aerostat,guest");
	begin(fdt, err, "memory@0");
	put_text(fdt, err, "device_type", "memory");
	put_u32s(fdt, err, "reg",
		(const uint32_t[]){ 0, 0, (uint32_t)(memory >> 32), (uint32_t)memory }, 4);
	end(fdt, err);
	begin(fdt, err, "chosen");
	put_text(fdt, err, "bootargs", g->config.cmdline);
	end(fdt, err);
	begin(fdt, err, "cpus");
	put_u32s(fdt, err, "#address-cells", (const uint32_t[]){ 1 }, 1);
	put_u32s(fdt, err, "#size-cells", (const uint32_t[]){ 0 }, 1);
	for (uint32_t i = 0; i < g->vcpu_count; i++) {
		char name[8];

		fmt_snprintf(name, sizeof(name), "cpu@%u", i);
		begin(fdt, err, name);
		put_text(fdt, err, "device_type", "cpu");
		put_u32s(fdt, err, "reg", &i, 1); /* its x2APIC's id */
		end(fdt, err);
	}
	end(fdt, err);
	begin(fdt, err, "hypervisor");
	put_text(fdt, err, "compatible", "aerostat,hv");
	put_u32s(fdt, err, "abi-version", (const uint32_t[]){ AERO_ABI_MAJOR, AERO_ABI_MINOR }, 2);
	put_text(fdt, err, "guest-name", g->config.name);
	put_u32s(fdt, err, "guest-id", (const uint32_t[]){ g->id }, 1);
	end(fdt, err);
	end(fdt, err);
}

int guest_dtb(const struct guest *g, void *buf, int bytes)
{
	int err = fdt_create(buf, bytes);

	if (err == 0)
		err = fdt_add_reservemap_entry(buf, GUEST_BUILD_PML4, 3 * PAGE_BYTES);
	if (err == 0)
		err = fdt_add_reservemap_entry(buf, GUEST_BUILD_DTB, GUEST_DTB_MAX);
	if (err == 0)
		err = fdt_finish_reservemap(buf);
	put_nodes(buf, &err, g);
	if (err == 0)
		err = fdt_finish(buf);
	return err == 0 ? (int)fdt_totalsize(buf) : err;
}

static status_t write_dtb(struct guest *g)
{
	void *buf = heap_alloc(GUEST_DTB_MAX);
	status_t s = ERR_NOMEM;

	if (buf) {
		int bytes = guest_dtb(g, buf, (int)GUEST_DTB_MAX);

		s = bytes < 0 ? ERR_LIMIT : p2m_copy_to(&g->p2m, GPA(GUEST_BUILD_DTB), buf,
						    (uint64_t)bytes);
	}
	heap_free(buf, GUEST_DTB_MAX);
	return s;
}

status_t guest_build(struct guest *g, struct virt_boot *boot, char error[CONFIG_ERROR_BYTES])
{
	const struct image *image = find_image(g->config.kernel);
	struct elf_image elf;
	const char *why = "";

	if (!image) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: there is no image %s; the config "
			"must name it when the machine boots", g->config.name, g->config.kernel);
		return ERR_NOENT;
	}
	status_t s = elf_parse(image->data, image->bytes, &elf, &why);

	if (s == OK)
		s = load_segments(g, image, &elf, &why);
	if (s != OK) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: image %s: %s", g->config.name,
			g->config.kernel, why);
		return s;
	}
	s = write_page_tables(g);
	if (s == OK)
		s = write_dtb(g);
	if (s != OK) {
		fmt_snprintf(error, CONFIG_ERROR_BYTES, "guest %s: no memory for its boot tables (%s)",
			g->config.name, status_text(s));
		return s;
	}
	*boot = (struct virt_boot){
		.entry = elf.entry, .cr3 = GUEST_BUILD_PML4, .rsi = GUEST_BUILD_DTB
	};
	return OK;
}
