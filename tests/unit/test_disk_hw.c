/* What the disk drivers know of hardware: PCI's configuration space, PRD tables, virtio's capabilities,
 * the ATA registers. */
#include "tests/unit/unit.h"

#include "tests/fake/platform.h"

/* ---- ports: one ATA channel of two disks with a bus master at 0xc000 ---------------------------- */

#define BUS_MASTER 0xc000u

static uint8_t port_in(uint16_t port);
static void port_out(uint16_t port, uint32_t v);
static void port_in_data(void *buf, size_t dwords);
static void port_out_data(const void *buf, size_t dwords);

#define inb   cpu_inb
#define outb  cpu_outb
#define outl  cpu_outl
#define insl  cpu_insl
#define outsl cpu_outsl
#include "arch/x86/cpu.h"
#undef inb
#undef outb
#undef outl
#undef insl
#undef outsl
#define inb(p)         port_in(p)
#define outb(p, v)     port_out(p, v)
#define outl(p, v)     port_out(p, v)
#define insl(p, b, n)  ((void)(p), port_in_data(b, n))
#define outsl(p, b, n) ((void)(p), port_out_data(b, n))

#include "arch/x86/disk.h"
/* Before cmocka's fail() is taken away. */
static void bad_port(uint16_t port)
{
	fail_msg("port %x", port);
}
#undef fail
#include "arch/x86/ata.c"
#include "arch/x86/ata_dma.c"
#include "arch/x86/pci.h"
#include "arch/x86/virtio_pci.h"

struct ata_channel ata_channels[ATA_CHANNELS] = { { .base = 0x1f0, .control = 0x3f6 } };

void disk_log_failure(uint32_t index, const char *what, uint64_t sector, const char *why)
{
	(void)index, (void)what, (void)sector, (void)why;
}

static const char *driver_name;

void disk_set_driver(uint32_t index, const char *driver)
{
	(void)index;
	driver_name = driver;
}

/* Host addresses are the host's own, below 4 GiB for the bus master by leaving the top away. */
static uint64_t high_bits;

bool disk_dma_address(const void *buf, uint64_t bytes, hpa_t *out)
{
	(void)bytes;
	*out = HPA((uintptr_t)buf - high_bits);
	return true;
}

/* ---- the ATA disk ------------------------------------------------------------------------------ */

static uint8_t disk_data[1024 * 512];

static struct {
	uint8_t reg[8], status, error, control, bm_command, bm_status;
	uint32_t bm_table;
	uint8_t command;
	uint32_t at, left, block, busy; /* bytes; status reads that still say busy */
	bool pio_write;
	uint32_t resets;
	bool refuse_dma, bad_medium, never_ready;
} ata;

static uint32_t ata_sector(void)
{
	return ata.reg[3] | (uint32_t)ata.reg[4] << 8 | (uint32_t)ata.reg[5] << 16;
}

static void ata_run(uint8_t command)
{
	uint32_t sectors = ata.reg[2] ? ata.reg[2] : 256;

	ata.command = command;
	ata.at = ata_sector() * 512;
	ata.status = 0x50;
	ata.busy = 3;
	if (ata.bad_medium) {
		ata.status = 0x51;
		ata.error = 0x40;
		return;
	}
	if (command == 0xe7 || command == 0xea)
		return;
	ata.left = sectors * 512;
	ata.status = 0x58;
	ata.pio_write = command == 0x30 || command == 0xc5;
	ata.block = command == 0xc4 || command == 0xc5 ? 16 * 512 : 512;
}

static void ata_dma_run(void)
{
	if (ata.bad_medium) /* the disk asks for nothing: the bus master stays at it */
		return;
	if (ata.refuse_dma) {
		ata.bm_status |= 2;
		ata.status = 0x51;
		ata.error = 0x04;
		return;
	}
	const struct ata_prd *table = (void *)(ata.bm_table + high_bits);

	for (uint32_t i = 0;; i++) {
		uint32_t n = table[i].bytes ? table[i].bytes : 65536;
		void *memory = (void *)(table[i].address + high_bits);

		assert_true(i < ATA_PRDS_MAX);
		assert_true(n <= ata.left);
		assert_int_equal(ata.command == 0xc8, !!(ata.bm_command & 8));
		if (ata.command == 0xc8)
			memcpy(memory, disk_data + ata.at, n);
		else
			memcpy(disk_data + ata.at, memory, n);
		ata.at += n;
		ata.left -= n;
		if (table[i].flags & ATA_PRD_LAST)
			break;
	}
	assert_int_equal(ata.left, 0);
	ata.status = 0x50;
	ata.busy = 5; /* the bus master is done before the disk is */
	ata.bm_status &= (uint8_t)~1u;
}

static uint8_t ata_status(void)
{
	if (ata.never_ready)
		return 0xd0;
	if (ata.busy) {
		ata.busy--;
		return 0xd0;
	}
	return ata.status;
}

static uint8_t port_in(uint16_t port)
{
	switch (port) {
	case 0x1f7:
	case 0x3f6:
		return ata_status();
	case 0x1f1:
		return ata.error;
	case BUS_MASTER + 2:
		if (ata.bm_status & 1 && !ata.busy)
			ata_dma_run();
		return ata.bm_status;
	default:
		bad_port(port);
		return 0xff;
	}
}

static void port_out(uint16_t port, uint32_t v)
{
	if (port == 0x1f7) {
		assert_false(ata_status() & 0x88);
		ata_run((uint8_t)v);
	} else if (port > 0x1f0 && port < 0x1f7) {
		ata.reg[port - 0x1f0] = (uint8_t)v;
	} else if (port == 0x3f6) {
		assert_true(v & 2); /* no interrupts */
		if (v & 4) {
			ata.resets++;
			ata.status = 0x50;
			ata.left = 0;
			ata.busy = 20;
		}
	} else if (port == BUS_MASTER) {
		if (v & 1 && !(ata.bm_command & 1))
			ata.bm_status |= 1;
		if (!(v & 1))
			ata.bm_status &= (uint8_t)~1u;
		ata.bm_command = (uint8_t)v;
	} else if (port == BUS_MASTER + 2) {
		ata.bm_status &= (uint8_t)~(v & 6);
	} else if (port == BUS_MASTER + 4) {
		ata.bm_table = v;
	} else {
		bad_port(port);
	}
}

static void ata_moved(size_t bytes)
{
	assert_int_equal(bytes, MIN(ata.block, ata.left));
	ata.at += (uint32_t)bytes;
	ata.left -= (uint32_t)bytes;
	ata.busy = 2;
	ata.status = ata.left ? 0x58 : 0x50;
}

static void port_in_data(void *buf, size_t dwords)
{
	memcpy(buf, disk_data + ata.at, dwords * 4);
	ata_moved(dwords * 4);
}

static void port_out_data(const void *buf, size_t dwords)
{
	assert_true(ata.pio_write);
	memcpy(disk_data + ata.at, buf, dwords * 4);
	ata_moved(dwords * 4);
}

static uint8_t memory[256 * 512] __attribute__((aligned(4096)));

static void on_done(struct disk_io *io)
{
	(void)io;
}

/* As the engine does: started, then looked at until it has ended. */
static status_t run(struct disk_io *io)
{
	struct disk_channel *c = &ata_channels[0].queue;

	for (uint32_t i = 0; i < 100; i++) {
		status_t s = ata_ops.start(c, io);

		if (s == ERR_BUSY)
			continue;
		assert_int_equal(s, OK);
		for (uint32_t n = 0; n < 1000; n++)
			if (ata_ops.reap(c)) {
				assert_true(io->status || !ata.busy);
				return io->status;
			}
		return ERR_CORRUPT;
	}
	return ERR_BUSY;
}

static int ata_setup(void **state)
{
	struct ata_channel *c = &ata_channels[0];

	(void)state;
	memset(&ata, 0, sizeof(ata));
	ata.status = 0x50;
	high_bits = (uintptr_t)memory & ~0xffffffffull;
	for (uint32_t i = 0; i < sizeof(disk_data); i++)
		disk_data[i] = (uint8_t)(i * 7 + i / 512);
	c->bus_master = BUS_MASTER;
	for (uint32_t i = 0; i < 2; i++)
		c->disk[i] = (struct ata_disk){ .select = i ? ATA_DEVICE_SLAVE : 0, .block_sectors = 16,
			.dma = i == 0 };
	driver_name = "";
	return 0;
}

static void ata_moves(void **state)
{
	static const uint32_t lengths[] = { 1, 8, 15, 16, 17, 64, 100, 256 };

	(void)state;
	for (uint32_t i = 0; i < ARRAY_COUNT(lengths) * 3; i++) {
		uint32_t n = lengths[i / 3], by = i % 3; /* DMA; multiple; single */
		struct disk_io io = { .disk = by ? 1 : 0, .sector = 3 + i, .sectors = n, .buf = memory,
			.done = on_done };

		ata_channels[0].disk[1].block_sectors = by == 1 ? 16 : 1;
		memset(memory, 0, sizeof(memory));
		assert_int_equal(run(&io), OK);
		assert_memory_equal(memory, disk_data + io.sector * 512, n * 512);
		assert_int_equal(ata.command, by == 0 ? 0xc8 : by == 1 ? 0xc4 : 0x20);
		assert_int_equal(ata.reg[6], by ? 0xf0 : 0xe0);
		memset(memory, (int)(i + 1), n * 512);
		io.write = true;
		assert_int_equal(run(&io), OK);
		assert_memory_equal(memory, disk_data + io.sector * 512, n * 512);
	}
	struct disk_io flush = { .write = true };

	assert_int_equal(run(&flush), OK);
	assert_int_equal(ata.command, 0xe7);
	assert_int_equal(ata.resets, 0);
	/* Who waits, and where the bus master is slow, goes by PIO. */
	struct disk_io io = { .sectors = 8, .buf = memory };

	assert_int_equal(run(&io), OK);
	assert_int_equal(ata.command, 0xc4);
	io.done = on_done;
	ata_channels[0].disk[0].slow_dma = true;
	assert_int_equal(run(&io), OK);
	assert_int_equal(ata.command, 0xc4);
	io.write = true;
	assert_int_equal(run(&io), OK);
	assert_int_equal(ata.command, 0xca);
}

static void ata_fails(void **state)
{
	struct disk_io io = { .sectors = 8, .buf = memory, .done = on_done };

	(void)state;
	ata.bad_medium = true; /* PIO would not help: DMA stays */
	assert_int_equal(run(&io), ERR_IO);
	assert_true(ata_channels[0].disk[0].dma);
	io.disk = 1;
	assert_int_equal(run(&io), ERR_IO);
	ata.bad_medium = false;
	io.disk = 0;
	ata.refuse_dma = true; /* the engine begins it again: by PIO */
	assert_int_equal(run(&io), ERR_BUSY);
	assert_false(ata_channels[0].disk[0].dma);
	assert_string_equal(driver_name, "pio");
	assert_int_equal(ata.resets, 1);
	assert_int_equal(run(&io), OK);
	assert_memory_equal(memory, disk_data, 8 * 512);
	assert_int_equal(ata.command, 0x20); /* a reset may have undone SET MULTIPLE */
	/* Never ready: nothing is begun, nothing is waited for. */
	ata.never_ready = true;
	assert_int_equal(ata_ops.start(&ata_channels[0].queue, &io), ERR_BUSY);
	ata_ops.reset(&ata_channels[0].queue);
	ata.never_ready = false;
	assert_int_equal(run(&io), OK);
	/* Above what the bus master reaches: by PIO, and DMA stays for others. */
	ata_channels[0].disk[0].dma = true;
	ata.refuse_dma = false;
	high_bits -= GIB(4);
	assert_int_equal(run(&io), OK);
	assert_int_equal(ata.command, 0x20);
	high_bits += GIB(4);
	assert_int_equal(run(&io), OK);
	assert_int_equal(ata.command, 0xc8);
}

static void prd(void **state)
{
	struct ata_prd t[ATA_PRDS_MAX];

	(void)state;
	assert_true(ata_prd_build(t, HPA(0x12345000), 4096));
	assert_int_equal(t[0].address, 0x12345000);
	assert_int_equal(t[0].bytes, 4096);
	assert_int_equal(t[0].flags, ATA_PRD_LAST);
	assert_true(ata_prd_build(t, HPA(0x1f000), 131072));
	assert_int_equal(t[0].bytes, 4096);
	assert_int_equal(t[0].flags, 0);
	assert_int_equal(t[1].address, 0x20000);
	assert_int_equal(t[1].bytes, 0); /* 64 KiB */
	assert_int_equal(t[2].bytes, 0xf000);
	assert_int_equal(t[2].flags, ATA_PRD_LAST);
	assert_true(ata_prd_build(t, HPA(GIB(4) - 4096), 4096));
	assert_false(ata_prd_build(t, HPA(GIB(4) - 4096), 4608));
	assert_false(ata_prd_build(t, HPA(GIB(4)), 512));
	assert_false(ata_prd_build(t, HPA(0x1001), 512));
	assert_false(ata_prd_build(t, HPA(0x1000), 0));
	assert_false(ata_prd_build(t, HPA(0x1f000), KIB(256)));
}

/* ---- PCI ------------------------------------------------------------------------------------ */

static uint32_t config[3][256][64]; /* bus, device and function, dword */
static uint32_t config_reads;

static uint32_t config_read(uint16_t at, uint32_t offset)
{
	config_reads++;
	assert_true(offset < 256 && !(offset & 3));
	return at >> 8 < 3 ? config[at >> 8][at & 255][offset / 4] : UINT32_MAX;
}

static void config_write(uint16_t at, uint32_t offset, uint32_t v)
{
	config[at >> 8][at & 255][offset / 4] = v;
}

static const struct pci_access access = { config_read, config_write };
static uint16_t found[32];
static uint32_t found_count, found_max;

static bool on_found(void *ctx, const struct pci_function *f)
{
	assert_ptr_equal(ctx, found);
	found[found_count++] = f->at;
	return found_count < found_max;
}

static void function(uint16_t at, uint32_t id, uint32_t class_code, uint32_t header)
{
	config[at >> 8][at & 255][0] = id;
	config[at >> 8][at & 255][2] = class_code << 16;
	config[at >> 8][at & 255][3] = header << 16;
}

static void pci_scans(void **state)
{
	(void)state;
	memset(config, 0xff, sizeof(config));
	found_count = 0;
	found_max = 32;
	function(0x0000, 0x12378086, 0x0600, 0);
	function(0x0008, 0x70008086, 0x0601, 0x80); /* 1.0, several functions */
	function(0x0009, 0x70108086, 0x0101, 0);
	function(0x000b, 0x71138086, 0x0680, 0);
	function(0x0011, 0x10001af4, 0x0100, 0);    /* 2.1 without 2.0: not there */
	function(0x0019, 0x10001af4, 0x0100, 0);
	function(0x0018, 0x10011af4, 0x0100, 0);    /* 3.0 says it is alone */
	function(0x0020, 0x00011b36, 0x0604, 1);    /* a bridge to buses 1 and 2 */
	config[0][0x20][6] = 0x00020100;
	function(0x0208, 0x10421af4, 0x0100, 0);
	pci_scan(&access, on_found, found);
	const uint16_t want[] = { 0, 8, 9, 0xb, 0x18, 0x20, 0x208 };

	assert_int_equal(found_count, ARRAY_COUNT(want));
	assert_memory_equal(found, want, sizeof(want));
	found_count = 0;
	found_max = 2;
	pci_scan(&access, on_found, found);
	assert_int_equal(found_count, 2);
	config[0][9][8] = 0xc001;
	assert_true(pci_bar(&access, 9, 4).is_io);
	assert_int_equal(pci_bar(&access, 9, 4).base, 0xc000);
	config[0][9][8] = 0xc000000c;
	config[0][9][9] = 8;
	assert_int_equal(pci_bar(&access, 9, 4).base, 0x8c0000000);
	assert_true(pci_bar(&access, 9, 4).is_64);
	config[0][9][1] = 0xffff0100;
	pci_enable(&access, 9, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	assert_int_equal(config[0][9][1], 0x0105);
}

static void capability(uint32_t at, uint32_t next, uint32_t type, uint32_t bar, uint32_t offset,
	uint32_t bytes)
{
	uint32_t *c = &config[0][0x18][at / 4];

	c[0] = 0x09 | next << 8 | 20u << 16 | type << 24;
	c[1] = bar;
	c[2] = offset;
	c[3] = bytes;
	c[4] = 4;
}

static void virtio_device(void)
{
	memset(config, 0, sizeof(config));
	function(0x18, 0x10421af4, 0x0100, 0);
	config[0][0x18][1] = 0x00100000;
	config[0][0x18][4] = 0xc001;      /* BAR 0: ports */
	config[0][0x18][8] = 0xe000000c; /* BAR 4: memory, 64 bits */
	config[0][0x18][9] = 0x1;
	config[0][0x18][13] = 0x40;
	config[0][0x18][16] = 0x50 << 8 | 0x11; /* MSI-X */
	capability(0x50, 0x64, 5, 0, 0, 0);
	capability(0x64, 0x78, 1, 0, 0, 56); /* the legacy way: passed over */
	capability(0x78, 0x8c, 1, 4, 0, 56);
	capability(0x8c, 0xa0, 2, 4, 0x3000, 0x1000);
	capability(0xa0, 0xb4, 4, 4, 0x2000, 0x1000);
	capability(0xb4, 0, 1, 4, 0x500, 56); /* the second of its kind */
}

static void virtio_found(void **state)
{
	struct virtio_layout l;

	(void)state;
	virtio_device();
	assert_int_equal(virtio_find(&access, 0x18, &l), OK);
	assert_int_equal(l.common.at.v, 0x1e0000000);
	assert_int_equal(l.notify.at.v, 0x1e0003000);
	assert_int_equal(l.notify.bytes, 0x1000);
	assert_int_equal(l.device.at.v, 0x1e0002000);
	assert_int_equal(l.notify_multiplier, 4);
	config[0][0x18][0x8c / 4] = 0x78 << 8 | 0x11; /* a circle, and no notify */
	config_reads = 0;
	assert_int_equal(virtio_find(&access, 0x18, &l), ERR_NOENT);
	assert_true(config_reads < 10000);
	virtio_device();
	capability(0x78, 0x8c, 1, 4, 0, 20); /* too short */
	assert_int_equal(virtio_find(&access, 0x18, &l), ERR_FORMAT);
	capability(0x78, 0x8c, 1, 4, UINT32_MAX, 56);
	assert_int_equal(virtio_find(&access, 0x18, &l), ERR_FORMAT);
	capability(0x78, 0x8c, 1, 7, 0, 56); /* no such BAR */
	config[0][0x18][0xb4 / 4] = 0;
	assert_int_equal(virtio_find(&access, 0x18, &l), ERR_NOENT);
	config[0][0x18][1] = 0; /* no list at all */
	assert_int_equal(virtio_find(&access, 0x18, &l), ERR_NOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(ata_moves, ata_setup), cmocka_unit_test_setup(ata_fails, ata_setup),
		cmocka_unit_test(prd), cmocka_unit_test(pci_scans), cmocka_unit_test(virtio_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
