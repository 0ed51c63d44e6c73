/* Content hashes of pages: xxHash64 (Y. Collet's library, header only, no vector registers), and a keyed one. */
#pragma once

#include "vmm/base/types.h"

/* Of PAGE_BYTES bytes. Not a signature: who can choose both contents can make two alike, so equal pages are
 * compared whole; a salt that guests do not know keeps them from aiming. */
uint64_t page_hash(const void *page, uint64_t salt);

/* 128 bits that guests do not know. */
struct hash_key {
	uint64_t k[2];
};

/*
 * The page under a key: SipHash-1-3 (Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012; with one
 * round a word and three at the end). For where pages are taken to be alike by it alone: who does not know
 * the key cannot make two that are, not even with a choice of both, better than by chance (2^-64). xxHash64
 * is not so: pairs exist that collide under half of all salts.
 */
uint64_t page_keyed_hash(const void *page, const struct hash_key *key);
