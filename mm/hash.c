#include "mm/hash.h"

/* Packed loads: by default it calls memcpy for each, which a freestanding compiler does not see through. */
#define XXH_FORCE_MEMORY_ACCESS 1
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t page_hash(const void *page, uint64_t salt)
{
	return XXH64(page, PAGE_BYTES, salt);
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, uint32_t n)
{
	return x << n | x >> (64 - n);
}

static inline __attribute__((always_inline)) void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 = rotl(s->v0, 32) + s->v3;
	s->v2 += s->v1;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

static inline __attribute__((always_inline)) void sip_word(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

uint64_t page_keyed_hash(const void *page, const struct hash_key *key)
{
	const uint64_t *word = page;
	struct sip s = {
		.v0 = key->k[0] ^ 0x736f6d6570736575ull,
		.v1 = key->k[1] ^ 0x646f72616e646f6dull,
		.v2 = key->k[0] ^ 0x6c7967656e657261ull,
		.v3 = key->k[1] ^ 0x7465646279746573ull,
	};

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		sip_word(&s, word[i]);
	sip_word(&s, (uint64_t)(PAGE_BYTES & 0xff) << 56); /* the length's low byte: there is no rest */
	s.v2 ^= 0xff;
	for (uint32_t i = 0; i < 3; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
