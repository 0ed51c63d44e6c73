/*
 * Typed addresses. A guest virtual (gva), guest physical (gpa) and host physical (hpa) address, and
 * the page numbers gfn (guest) and mfn (host), are structs: mixing them does not compile.
 * Model: Xen's include/xen/mm-frame.h, Hafnium's inc/hf/addr.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT       12
#define PAGE_BYTES       4096ull
#define PAGE_OFFSET_MASK (PAGE_BYTES - 1)
#define ORDER_4K         0u
#define ORDER_2M         9u
#define ORDER_1G         18u
#define PAGES_2M         512u

typedef struct {
	uint64_t v;
} gva_t;
typedef struct {
	uint64_t v;
} gpa_t;
typedef struct {
	uint64_t v;
} hpa_t;
typedef struct {
	uint64_t v;
} gfn_t;
typedef struct {
	uint64_t v;
} mfn_t;

#define GVA(x) ((gva_t){ (x) })
#define GPA(x) ((gpa_t){ (x) })
#define HPA(x) ((hpa_t){ (x) })
#define GFN(x) ((gfn_t){ (x) })
#define MFN(x) ((mfn_t){ (x) })

#define MFN_NONE MFN(UINT64_MAX)
#define GFN_NONE GFN(UINT64_MAX)

static inline gfn_t gpa_to_gfn(gpa_t a)
{
	return GFN(a.v >> PAGE_SHIFT);
}
static inline gpa_t gfn_to_gpa(gfn_t f)
{
	return GPA(f.v << PAGE_SHIFT);
}
static inline mfn_t hpa_to_mfn(hpa_t a)
{
	return MFN(a.v >> PAGE_SHIFT);
}
static inline hpa_t mfn_to_hpa(mfn_t f)
{
	return HPA(f.v << PAGE_SHIFT);
}
static inline gfn_t gfn_add(gfn_t f, uint64_t n)
{
	return GFN(f.v + n);
}
static inline mfn_t mfn_add(mfn_t f, uint64_t n)
{
	return MFN(f.v + n);
}
static inline bool mfn_eq(mfn_t a, mfn_t b)
{
	return a.v == b.v;
}
static inline bool mfn_is_none(mfn_t a)
{
	return a.v == UINT64_MAX;
}

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define ARRAY_COUNT(a)  (sizeof(a) / sizeof((a)[0]))
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a)-1))
#define ALIGN_UP(x, a)  (((x) + (uint64_t)(a)-1) & ~((uint64_t)(a)-1))
#define MIN(a, b)       ((a) < (b) ? (a) : (b))
#define MAX(a, b)       ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define MUST_CHECK  __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
