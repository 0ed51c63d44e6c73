/* Time: the TSC, and one alarm from the x2APIC's TSC-deadline timer. No tick: an idle guest sleeps. */
#pragma once

#include <stdint.h>

void timer_init(void);
uint64_t now_ns(void); /* since boot */
/* An interrupt at `at_ns` at the latest; an earlier one may come too. Interrupts off. */
void timer_alarm(uint64_t at_ns);
/* The alarm's interrupt came. */
void timer_fired(void);
void interrupt_done(void);
