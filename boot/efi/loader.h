/* The parts of the loader that run under UEFI boot services. One CPU, one thread, no locks. */
#pragma once

#include <efi.h>
#include <efilib.h>

#include "boot/fdtscan.h"
#include "boot/handoff.h"
#include "boot/pagetable.h"
#include "vmm/base/elf.h"

#define LOADER_VERSION     "aerostat loader 0.1"
#define LOADER_STACK_BYTES KIB(32)
#define LOADER_PLACED_MAX  64u

struct loader {
	EFI_HANDLE image;
	EFI_FILE_HANDLE root;   /* of the file system that the loader came from */
	struct handoff *h;      /* firmware's identity mapping: pointer == physical address */
	uint8_t *stack;
	struct fdtscan config;
	struct elf_image elf;
	uint64_t image_bytes;   /* the hypervisor's segments together */
	struct pagetable tables;
	uint32_t placed_count;
	struct handoff_mem placed[LOADER_PLACED_MAX]; /* what the firmware's map does not know */
};

/* out.c: text on every screen and on COM1. Formats are GNU-EFI's: %a is a char string. */
void out_init(EFI_HANDLE image);
void out_firmware_gone(void); /* from here on only COM1 */
void out(const char *fmt, ...);
/* One line "aerostat: error: ...", then ends the emulator or returns to the firmware. */
_Noreturn void out_fatal(const char *fmt, ...);

/* file.c: files of \aerostat on the boot volume. `why` and `node` (may be "") complete the
 * message if it is missing. */
void file_open_volume(struct loader *l);
void *file_read(struct loader *l, const char *name, enum handoff_mem_type type,
	const char *why, const char *node, uint64_t *bytes);

/* place.c: memory, the hypervisor's segments and its first page tables. */
void *place_pages(struct loader *l, uint64_t bytes, enum handoff_mem_type type, const char *what);
void place_segments(struct loader *l, void *file);
void place_tables(struct loader *l, uint64_t top);

/* machine.c: what only boot services know. */
void machine_check(void);
bool machine_has_1g_pages(void);
void machine_framebuffer(struct handoff *h);
void machine_acpi(struct handoff *h);
void machine_cpus(struct loader *l);

/* leave.c */
uint64_t leave_memory_top(void);
_Noreturn void leave(struct loader *l);
extern const uint8_t loader_switch[]; /* code that must be mapped before and after */
