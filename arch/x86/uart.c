#include "arch/x86/uart.h"
#include "arch/x86/cpu.h"
#include "vmm/platform.h"

#define COM1          0x3f8u
#define UART_DATA     (COM1 + 0) /* divisor low with DLAB */
#define UART_IER      (COM1 + 1) /* divisor high with DLAB */
#define UART_FCR      (COM1 + 2)
#define UART_LCR      (COM1 + 3)
#define UART_MCR      (COM1 + 4)
#define UART_LSR      (COM1 + 5)
#define UART_SCRATCH  (COM1 + 7)
#define LCR_DLAB      0x80u
#define LCR_8N1       0x03u
#define FCR_ENABLE    0x07u /* FIFOs on and empty, receive trigger at one byte */
#define MCR_DTR_RTS   0x03u
#define MCR_LOOP      0x1eu
#define LSR_DATA      0x01u
#define LSR_THR_EMPTY 0x20u
#define LSR_ALL_SENT  0x40u
#define FIFO_BYTES    16u
#define RING_BYTES    256u /* 22 ms of a full line */
/* A byte takes 87 us; each turn reads a port, about 1 us on hardware and five ticks in Bochs. */
#define WAIT_TURNS    100000u

/* Owner: CPU 0. How many bytes the transmit FIFO surely has room for. */
static uint32_t room;
static bool present, stuck;

static bool wait_lsr(uint8_t bits, uint32_t turns)
{
	for (; turns; turns--) {
		if (inb(UART_LSR) & bits)
			return true;
		cpu_pause();
	}
	return false;
}

/* A byte sent in loop-back mode must come back: nothing else at these ports does that. */
static bool answers(void)
{
	outb(UART_SCRATCH, 0x5a);
	if (inb(UART_SCRATCH) != 0x5a)
		return false;
	outb(UART_MCR, MCR_LOOP);
	outb(UART_DATA, 0xae);
	bool back = wait_lsr(LSR_DATA, WAIT_TURNS) && inb(UART_DATA) == 0xae;

	outb(UART_MCR, MCR_DTR_RTS);
	return back;
}

bool uart_init(void)
{
	/* What the firmware still has in its FIFO is let out first. */
	if (inb(UART_LSR) != 0xff)
		(void)wait_lsr(LSR_THR_EMPTY, WAIT_TURNS);
	outb(UART_IER, 0);
	outb(UART_LCR, LCR_DLAB);
	outb(UART_DATA, 1);
	outb(UART_IER, 0);
	outb(UART_LCR, LCR_8N1);
	outb(UART_FCR, FCR_ENABLE);
	present = answers();
	outb(UART_FCR, FCR_ENABLE);
	return present;
}

/* THR empty means that the whole FIFO is: 16 bytes go without another look. */
bool platform_try_putc(char c)
{
	if (!present)
		return true;
	if (!room) {
		if (!(inb(UART_LSR) & LSR_THR_EMPTY))
			return false;
		room = FIFO_BYTES;
		stuck = false;
	}
	room--;
	outb(UART_DATA, (uint8_t)c);
	return true;
}

void platform_putc(char c)
{
	if (platform_try_putc(c))
		return;
	/* After one byte was given up, the port gets one look a byte until it moves again. */
	if (!stuck && wait_lsr(LSR_THR_EMPTY, WAIT_TURNS))
		(void)platform_try_putc(c);
	else
		stuck = true;
}

void uart_drain(void)
{
	for (uint32_t i = 0; present && i < FIFO_BYTES; i++)
		if (wait_lsr(LSR_ALL_SENT, WAIT_TURNS))
			return;
}

/* What came in, until CPU 0 asks for it. */
static struct {
	bool taken;          /* somebody is filling it; atomic */
	uint32_t head, tail; /* atomic: filled to, read to */
	uint8_t byte[RING_BYTES];
} ring;

void platform_listen(void)
{
	if (!present || __atomic_exchange_n(&ring.taken, true, __ATOMIC_ACQUIRE))
		return;
	uint32_t head = ring.head;

	while (head - __atomic_load_n(&ring.tail, __ATOMIC_ACQUIRE) < RING_BYTES &&
		inb(UART_LSR) & LSR_DATA)
		ring.byte[head++ % RING_BYTES] = inb(UART_DATA);
	__atomic_store_n(&ring.head, head, __ATOMIC_RELEASE);
	__atomic_store_n(&ring.taken, false, __ATOMIC_RELEASE);
}

int platform_getc(void)
{
	platform_listen();
	if (ring.tail == __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE))
		return -1;
	int c = ring.byte[ring.tail % RING_BYTES];

	__atomic_store_n(&ring.tail, ring.tail + 1, __ATOMIC_RELEASE);
	return c;
}
