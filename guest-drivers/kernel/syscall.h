/* What a process may ask: int 0x80, number in rax, arguments in rdi rsi rdx, result in rax. */
#pragma once

#include <stdint.h>

enum syscall {
	SYS_EXIT = 0,       /* (code) */
	SYS_PRINT = 1,      /* (text, bytes <= 200): one line, prefixed with pid and name */
	SYS_GROW = 2,       /* (pages): the heap grows; its old end, or -1 */
	SYS_RELEASE = 3,    /* (address, bytes): whole pages of the heap read as zero again */
	SYS_FILE_READ = 4,  /* (offset, buffer, bytes): bytes read, or -1 */
	SYS_FILE_WRITE = 5, /* (offset, buffer, bytes): whole pages, up to the written part's end */
	SYS_FILE_INFO = 6,  /* (struct file_info *) */
	SYS_YIELD = 7,
	SYS_SLEEP = 8,      /* (ns) */
	SYS_TIME = 9,       /* (0) -> ns since boot; (1) -> ns by the TSC, which all guests share */
	SYS_PRESSURE = 10,  /* (ns to wait for a change, 0: do not) -> enum aero_pressure */
	SYS_PROGRESS = 11,  /* (passes, errors): for ps */
	SYS_COUNT
};

struct file_info {
	uint64_t bytes;         /* room; 0 without a disk */
	uint64_t written_bytes; /* from the start on */
	uint64_t seed;          /* of the content */
};
