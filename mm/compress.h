/*
 * One page, smaller: LZ4 (Debian's liblz4, statically linked). The library runs between vector_begin() and
 * vector_end(), needs no memory but the state below and less than 256 bytes of stack, and is called without
 * any lock held: a page costs some ten thousand instructions.
 *
 * The input of page_decompress() is what page_compress() made and the hypervisor kept, but it is not
 * trusted: whatever it is, nothing outside the page is written and nothing outside the input read.
 */
#pragma once

#include "vmm/base/status.h"

/*
 * Boot: one state of 16 KiB out of the heap for each of the CPUs 0 .. `cpus` - 1, who may compress from then
 * on. ERR_NOMEM: none may.
 */
status_t compress_init(uint32_t cpus) MUST_CHECK;
void compress_off(void); /* nobody may any more; what is compressed can still be read */

/*
 * `page` (4096 bytes) into at most `cap` bytes at `out`. ERR_LIMIT: it does not fit, `out` holds nothing of
 * use; found out early if the page looks random. ERR_NOSYS: this CPU has no state. *page must not change
 * meanwhile (a guest's page: unmap it or copy it first).
 */
status_t page_compress(const void *page, void *out, uint32_t cap, uint32_t *bytes) MUST_CHECK;

/* Back: exactly 4096 bytes at `page`, or ERR_FORMAT, and the page holds anything. Any CPU. */
status_t page_decompress(const void *in, uint32_t bytes, void *page) MUST_CHECK;
