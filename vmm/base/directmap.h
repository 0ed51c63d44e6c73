/*
 * All of host RAM is mapped at one offset (writable, never executable). Hosted tests point the
 * offset at an array. `directmap_offset` is set once at boot, before any frame exists.
 */
#pragma once

#include "vmm/base/types.h"

extern uintptr_t directmap_offset;

static inline void *hpa_to_va(hpa_t a)
{
	return (void *)(directmap_offset + a.v);
}
static inline void *mfn_to_va(mfn_t f)
{
	return hpa_to_va(mfn_to_hpa(f));
}
static inline hpa_t va_to_hpa(const void *va)
{
	return HPA((uintptr_t)va - directmap_offset);
}
