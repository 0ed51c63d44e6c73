/* Descriptor tables. SDM vol. 3A, "Protected-Mode Memory Management", "64-Bit Mode TSS". */
#include "guest-drivers/kernel/cpu.h"

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/smp.h"

struct tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3, io_map;
} __attribute__((packed));
_Static_assert(sizeof(struct tss) == 104, "SDM");

struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};
_Static_assert(sizeof(struct gate) == 16, "SDM");

struct table_register {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

#define GATE_INTERRUPT 0x8e
#define GATE_TRAP_RING3 0xef
#define FAULT_STACK_BYTES 4096

/* All set once at boot; rsp[0] of a vCPU's at each switch, by who is in the kernel. */
static struct tss tss[VCPU_MAX];
static struct gate idt[256];
static uint64_t gdt[5 + 2 * VCPU_MAX];
static uint8_t fault_stack[VCPU_MAX][FAULT_STACK_BYTES] __attribute__((aligned(16)));

static void gate_set(unsigned int vector, uint64_t to, uint8_t type, uint8_t ist)
{
	idt[vector] = (struct gate){
		.offset_low = (uint16_t)to,
		.selector = SEL_KERNEL_CODE,
		.ist = ist,
		.type = type,
		.offset_middle = (uint16_t)(to >> 16),
		.offset_high = (uint32_t)(to >> 32),
	};
}

void cpu_set_trap_stack(uint64_t top)
{
	tss[kernel_vcpu].rsp[0] = top;
}

static void tables_init(void)
{
	gdt[1] = 0x00af9b000000ffffull; /* kernel code */
	gdt[2] = 0x00cf93000000ffffull; /* data */
	gdt[3] = 0x00cff3000000ffffull; /* user data */
	gdt[4] = 0x00affb000000ffffull; /* user code */
	for (unsigned int v = 0; v < VECTOR_STUBS; v++)
		gate_set(v, trap_stubs[v], GATE_INTERRUPT,
			 v == VECTOR_DOUBLE_FAULT || v == VECTOR_NMI ? 1 : 0);
	gate_set(VECTOR_SYSCALL, (uint64_t)trap_syscall, GATE_TRAP_RING3, 0);
	gate_set(VECTOR_SPURIOUS, (uint64_t)trap_spurious, GATE_INTERRUPT, 0);
}

void cpu_init(uint32_t id)
{
	struct tss *t = &tss[id];
	uint64_t base = (uint64_t)t;

	if (id == 0)
		tables_init();
	gdt[5 + 2 * id] = (sizeof(*t) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
			  (base >> 24 & 0xff) << 56;
	gdt[6 + 2 * id] = base >> 32;
	t->ist[0] = (uint64_t)fault_stack[id] + FAULT_STACK_BYTES;
	t->io_map = sizeof(*t);

	struct table_register gdtr = { sizeof(gdt) - 1, (uint64_t)gdt };
	struct table_register idtr = { sizeof(idt) - 1, (uint64_t)idt };

	load_tables(&gdtr, &idtr, SEL_TSS + 16 * id);
}
