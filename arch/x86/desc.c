#include "arch/x86/traps.h"
#include "arch/x86/cpu.h"
#include "arch/x86/image.h"
#include "arch/x86/percpu.h"

#define IDT_VECTORS    256u
#define IDT_INTERRUPT  0x8eu /* present, DPL 0, 64-bit interrupt gate */
#define GDT_CODE64     0x00af9a000000ffffull
#define GDT_DATA       0x00cf92000000ffffull
#define GDT_TSS_ACCESS 0x89ull /* present, available 64-bit TSS */
#define STUB_BYTES     16u

/* Gate descriptor (SDM vol. 3A, 64-Bit Mode IDT). */
struct idt_gate {
	uint16_t offset_low;
	uint16_t selector;
	uint8_t ist;
	uint8_t type;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t reserved;
};
_Static_assert(sizeof(struct idt_gate) == 16, "64-bit IDT gates are 16 bytes");

extern const char trap_stubs[]; /* trap_entry.S: one stub of STUB_BYTES a vector */

/* Filled once at boot, the same for every CPU. */
static struct idt_gate idt[IDT_VECTORS] __attribute__((aligned(16)));
/* Owner: the boot CPU. */
struct pcpu boot_pcpu __attribute__((aligned(64)));
/* What FS base points to, on every CPU: libfdt's objects read the stack protector's canary at fs:0x28. */
static uint64_t canary_page[8] __attribute__((aligned(64)));
#define CANARY_INDEX (0x28 / 8)

static void idt_fill(void)
{
	for (uint32_t v = 0; v < IDT_VECTORS; v++) {
		uint64_t at = (uint64_t)(uintptr_t)trap_stubs + v * STUB_BYTES;
		uint8_t ist = v == 2 ? 1 : v == 8 ? 2 : v == 18 ? 3 : 0;

		idt[v] = (struct idt_gate){
			.offset_low = (uint16_t)at,
			.selector = SEL_CODE,
			.ist = ist,
			.type = IDT_INTERRUPT,
			.offset_middle = (uint16_t)(at >> 16),
			.offset_high = (uint32_t)(at >> 32),
		};
	}
}

static void gdt_fill(struct pcpu *p)
{
	uint64_t base = (uint64_t)(uintptr_t)&p->tss;
	uint64_t limit = sizeof(p->tss) - 1;

	p->gdt[SEL_CODE / 8] = GDT_CODE64;
	p->gdt[SEL_DATA / 8] = GDT_DATA;
	p->gdt[SEL_TSS / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | GDT_TSS_ACCESS << 40 |
		(base >> 24 & 0xff) << 56;
	p->gdt[SEL_TSS / 8 + 1] = base >> 32;
	p->tss.iomap_base = sizeof(p->tss);
}

static void load_tables(struct pcpu *p)
{
	struct desc_ptr gdtr = { sizeof(p->gdt) - 1, (uint64_t)(uintptr_t)p->gdt };
	struct desc_ptr idtr = { sizeof(idt) - 1, (uint64_t)(uintptr_t)idt };

	__asm__ volatile("lgdt %[gdtr]\n\t"
			 "pushq %[code]\n\t"
			 "leaq 1f(%%rip), %%rax\n\t"
			 "pushq %%rax\n\t"
			 "lretq\n"
			 "1:\n\t"
			 "mov %[data], %%ds\n\t"
			 "mov %[data], %%es\n\t"
			 "mov %[data], %%ss\n\t"
			 "mov %[null], %%fs\n\t"
			 "mov %[null], %%gs\n\t"
			 "lidt %[idtr]\n\t"
			 "ltr %[tss]"
			 :
			 : [gdtr] "m"(gdtr), [idtr] "m"(idtr), [code] "i"((uint64_t)SEL_CODE),
			 [data] "r"((uint32_t)SEL_DATA), [null] "r"(0), [tss] "r"((uint16_t)SEL_TSS)
			 : "rax", "memory");
}

void desc_init(void)
{
	boot_pcpu.stacks = &boot_stacks;
	/* A zero low byte: string functions cannot run over it by copying it. */
	canary_page[CANARY_INDEX] = (rdtsc() * 0x9e3779b97f4a7c15ull) & ~0xffull;
	idt_fill();
	desc_load(&boot_pcpu);
}

void desc_load(struct pcpu *p)
{
	const struct boot_stacks *s = p->stacks;

	p->self = p;
	p->fs_base = (uint64_t)(uintptr_t)canary_page;
	p->tss.ist[0] = (uintptr_t)s->nmi + STACK_IST_BYTES;
	p->tss.ist[1] = (uintptr_t)s->double_fault + STACK_IST_BYTES;
	p->tss.ist[2] = (uintptr_t)s->machine_check + STACK_IST_BYTES;
	gdt_fill(p);
	load_tables(p);
	wrmsr(MSR_FS_BASE, p->fs_base);
	wrmsr(MSR_GS_BASE, (uint64_t)(uintptr_t)p);
}
