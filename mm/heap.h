/*
 * The hypervisor's heap: zeroed objects up to 2 MiB out of HV frames. Small ones come from size
 * classes (16 .. 2048 bytes), larger ones from whole frames. NULL means exhaustion.
 */
#pragma once

#include "mm/frame.h"

void *heap_alloc(size_t bytes); /* zeroed; 16-byte aligned, page aligned from 4096 bytes up */
void heap_free(void *p, size_t bytes); /* the same size; NULL is fine */
uint64_t heap_used_bytes(void); /* frames held by the heap, in bytes */
