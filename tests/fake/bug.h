/* HV_BUG in hosted tests: aborts, or returns to a test that expects it. */
#pragma once

#include <setjmp.h>
#include <stdbool.h>

extern jmp_buf *fake_bug_return; /* set: hv_bug() jumps there with 1 instead of aborting */
extern char fake_bug_message[256];

/* True if `statement` reached HV_BUG. Locks taken inside stay taken: the last act of a test. */
#define FAKE_BUG_REACHED(statement)                                                                \
	({                                                                                         \
		jmp_buf here_;                                                                     \
		volatile bool reached_ = true;                                                            \
		fake_bug_return = &here_;                                                          \
		if (!setjmp(here_)) {                                                              \
			statement;                                                                 \
			reached_ = false;                                                          \
		}                                                                                  \
		fake_bug_return = NULL;                                                            \
		reached_;                                                                          \
	})
