/* Pure. Names of exceptions and words for a page fault's error code, for the dump. */
#pragma once

#include "vmm/base/types.h"

const char *trap_name(uint64_t vector); /* "page fault"; "reserved exception"; never NULL */

#define TRAP_PF_TEXT_BYTES 80
/* E.g. "write to a page that is not present" (SDM vol. 3A, Page-Fault Exceptions). */
void trap_page_fault_text(uint64_t error_code, char out[TRAP_PF_TEXT_BYTES]);

/*
 * Whether a call instruction may end at `code + offset`: filters return addresses out of a stack
 * that has no frame pointers. Reads at most 7 bytes before the offset, none before 0.
 */
bool trap_follows_call(const uint8_t *code, uint64_t offset);
