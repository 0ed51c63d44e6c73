/* Time: the TSC, and one alarm from the x2APIC's TSC-deadline timer. No tick: an idle guest sleeps. */
#pragma once

#include <stdint.h>

void timer_init(void);
void timer_vcpu_init(void); /* the other vCPUs' */
/* What is kept of a vCPU: when its alarm comes (smp.h). */
uint64_t timer_save(void);
void timer_load(uint64_t armed_ns);
uint64_t now_ns(void); /* since boot */
uint64_t shared_ns(void); /* the TSC from 0 on: the same in all guests */
/* An interrupt at `at_ns` at the latest; an earlier one may come too. Interrupts off. */
void timer_alarm(uint64_t at_ns);
/* The alarm's interrupt came. */
void timer_fired(void);
void interrupt_done(void);
