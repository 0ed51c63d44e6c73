/* COM1, a 16550; platform.h has putc and getc. */
#pragma once

#include "vmm/base/types.h"

/* 115200 8N1, FIFOs on, interrupts off. False: nothing answers there; output then goes nowhere. */
bool uart_init(void);
/* Waits until the last byte has left the port; bounded. */
void uart_drain(void);
