/*
 * Code that runs in ring 3: no kernel data, no statics that are written; all state is on the stack
 * and the heap. Linked apart by the file name's user_ (kernel.ld).
 */
#pragma once

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/syscall.h"
#include "vmm/abi/aerostat.h"

struct user_workload {
	const char *name, *arguments, *help;
	void (*entry)(uint64_t size, uint64_t second, uint64_t third, uint64_t seed);
	unsigned int sizes_min, sizes_max;
};
extern const struct user_workload user_workloads[]; /* ends with name NULL */

static inline uint64_t user_call(enum syscall n, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"((uint64_t)n), "D"(a), "S"(b), "d"(c) : "memory");
	return r;
}

/* What belongs at `address` in round `round`. */
static inline uint64_t user_pattern(uint64_t address, uint64_t round)
{
	return (address + round) * 0x9e3779b97f4a7c15ull;
}

static inline uint64_t user_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

_Noreturn void user_exit(int code);
void user_print(const char *text);
/* Text into a buffer, with a 0 behind it; returns where the next goes. */
char *user_put_text(char *at, const char *text);
char *user_put_hex(char *at, uint64_t v);
char *user_put_decimal(char *at, uint64_t v);
void *user_grow(uint64_t bytes); /* ends the process if it cannot */
/* Prints "CORRUPT ..." and counts; ends the process at the tenth. */
void user_corrupt(uint64_t *errors, const void *at, uint64_t expected, uint64_t found);
