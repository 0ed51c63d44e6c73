/* cache: writes a file once, then reads it over and over and verifies every byte. Ring 3. */
#include "guest-drivers/kernel/user.h"

#define CHUNK 32768u

static void write_file(uint64_t *buf, uint64_t from, uint64_t to, uint64_t seed)
{
	for (uint64_t at = from; at < to; at += CHUNK) {
		uint64_t bytes = MIN((uint64_t)CHUNK, to - at);

		for (uint64_t i = 0; i < bytes / 8; i++)
			buf[i] = user_pattern(at + i * 8, seed);
		if (user_call(SYS_FILE_WRITE, at, (uint64_t)buf, bytes) != bytes) {
			user_print("cannot write the file");
			user_exit(2);
		}
	}
}

static void verify(const uint64_t *buf, uint64_t at, uint64_t bytes, uint64_t seed, uint64_t *errors)
{
	for (uint64_t i = 0; i < bytes / 8; i++)
		if (buf[i] != user_pattern(at + i * 8, seed))
			user_corrupt(errors, (const void *)(at + i * 8), user_pattern(at + i * 8, seed),
				     buf[i]);
}

void user_cache(uint64_t size, uint64_t passes, uint64_t third, uint64_t seed);
void user_cache(uint64_t size, uint64_t passes, uint64_t third, uint64_t seed)
{
	struct file_info info = { 0 };
	uint64_t *buf = user_grow(CHUNK);
	uint64_t errors = 0;

	(void)third, (void)seed;
	size = ALIGN_DOWN(size, PAGE_BYTES);
	user_call(SYS_FILE_INFO, (uint64_t)&info, 0, 0);
	if (!size || size > info.bytes) {
		user_print(info.bytes ? "the file area is smaller than that" : "there is no disk");
		user_exit(2);
	}
	if (info.written_bytes < size)
		write_file(buf, info.written_bytes, size, info.seed);
	for (uint64_t pass = 1; !passes || pass <= passes; pass++) {
		for (uint64_t at = 0; at < size; at += CHUNK) {
			uint64_t bytes = MIN((uint64_t)CHUNK, size - at);

			if (user_call(SYS_FILE_READ, at, (uint64_t)buf, bytes) != bytes) {
				user_print("cannot read the file");
				user_exit(2);
			}
			verify(buf, at, bytes, info.seed, &errors);
		}
		user_call(SYS_PROGRESS, pass, errors, 0);
	}
	user_exit(errors != 0);
}
