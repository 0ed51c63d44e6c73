/*
 * What the operator sees of the loader. The firmware's console may or may not reach the serial
 * port, so serial is written directly, and the firmware prints on each of its other consoles.
 */
#include "boot/efi/loader.h"
#include "boot/efi/port.h"

#define COM1       0x3f8
#define LSR        (COM1 + 5)
#define LSR_THRE   0x20
#define LINE_BYTES 400
#define SCREEN_MAX 8

/* All set once by out_init and out_firmware_gone; one thread. */
static SIMPLE_TEXT_OUTPUT_INTERFACE *screen[SCREEN_MAX];
static UINTN screen_count;
static bool have_com1;
static bool firmware_gone;
static EFI_HANDLE self;

static EFI_GUID console_out_device = { 0xd3b36f2c, 0xd551, 0x11d4,
	{ 0x9a, 0x46, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d } };

/* UEFI specification, "UART Device Path". */
static bool path_has_uart(EFI_HANDLE handle)
{
	EFI_DEVICE_PATH *node;
	EFI_STATUS s = BS->HandleProtocol(handle, &DevicePathProtocol, (void **)&node);

	for (; !EFI_ERROR(s) && !IsDevicePathEnd(node); node = NextDevicePathNode(node)) {
		if (DevicePathType(node) == MESSAGING_DEVICE_PATH &&
			DevicePathSubType(node) == MSG_UART_DP)
			return true;
		if (DevicePathNodeLength(node) < (int)sizeof(EFI_DEVICE_PATH))
			break; /* malformed: would not advance */
	}
	return false;
}

static void find_screens(void)
{
	EFI_HANDLE *handle;
	UINTN count;

	if (EFI_ERROR(BS->LocateHandleBuffer(ByProtocol, &console_out_device, NULL, &count, &handle)))
		count = 0;
	for (UINTN i = 0; i < count && screen_count < SCREEN_MAX; i++) {
		if (have_com1 && path_has_uart(handle[i]))
			continue;
		if (!EFI_ERROR(BS->HandleProtocol(handle[i], &TextOutProtocol,
			    (void **)&screen[screen_count])))
			screen_count++;
	}
	if (screen_count == 0 && ST->ConOut && !have_com1)
		screen[screen_count++] = ST->ConOut;
}

void out_init(EFI_HANDLE image)
{
	self = image;
	have_com1 = inb(LSR) != 0xff;
	if (have_com1) {
		outb(COM1 + 1, 0);    /* no interrupts */
		outb(COM1 + 3, 0x80); /* divisor latch */
		outb(COM1 + 0, 1);    /* 115200 */
		outb(COM1 + 1, 0);
		outb(COM1 + 3, 3);    /* 8N1 */
		outb(COM1 + 2, 7);    /* FIFOs on, cleared */
		outb(COM1 + 4, 3);    /* DTR, RTS */
	}
	find_screens();
}

void out_firmware_gone(void)
{
	firmware_gone = true;
}

static void serial_put(char c)
{
	for (int i = 0; i < 100000 && !(inb(LSR) & LSR_THRE); i++)
		__asm__ volatile("pause");
	outb(COM1, (uint8_t)c);
}

static void serial_write(const char *s)
{
	for (; have_com1 && *s; s++) {
		if (*s == '\n')
			serial_put('\r');
		serial_put(*s);
	}
}

static void screen_write(const char *s)
{
	CHAR16 wide[2 * LINE_BYTES];
	UINTN n = 0;

	for (; *s && n < 2 * LINE_BYTES - 2; s++) {
		if (*s == '\n')
			wide[n++] = L'\r';
		wide[n++] = (CHAR16)*s;
	}
	wide[n] = 0;
	for (UINTN i = 0; i < screen_count; i++)
		screen[i]->OutputString(screen[i], wide);
}

static void out_va(const char *fmt, va_list ap)
{
	char line[LINE_BYTES];

	AsciiVSPrint((CHAR8 *)line, sizeof(line), (const CHAR8 *)fmt, ap);
	line[sizeof(line) - 1] = 0;
	serial_write(line);
	if (!firmware_gone)
		screen_write(line);
}

void out(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	out_va(fmt, ap);
	va_end(ap);
}

/*
 * A hypervisor says so in CPUID. Bochs does not, but has a 440FX host bridge, which was never built
 * together with a 64-bit processor.
 */
static bool emulated(void)
{
	uint32_t r[4];

	cpuid(1, r);
	if (r[2] >> 31)
		return true;
	outl(0xcf8, 0x80000000);
	return inl(0xcfc) == 0x12378086;
}

static void end_emulator(void)
{
	serial_write("aerostat: exit 1\n"); /* boot/run reads this: Bochs cannot return a code */
	for (const char *p = "Shutdown"; *p; p++)
		outb(0x8900, (uint8_t)*p); /* Bochs */
	outl(0xf4, 1);                     /* QEMU's isa-debug-exit */
}

_Noreturn void out_fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	out("aerostat: error: ");
	out_va(fmt, ap);
	va_end(ap);
	out("\n");
	if (emulated()) {
		if (!firmware_gone)
			BS->Stall(300000);
		end_emulator();
	}
	if (!firmware_gone) {
		BS->Stall(10000000); /* us: long enough to be read, before the firmware goes on */
		BS->Exit(self, EFI_LOAD_ERROR, 0, NULL);
	}
	for (;;)
		__asm__ volatile("cli; hlt");
}
