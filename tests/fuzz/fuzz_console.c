/* Any bytes typed at the console: line editor and splitter of words. */
#include <stdlib.h>
#include <string.h>

#include "vmm/command.h"
#include "vmm/lineedit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void out(void *ctx, const char *s, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++)
		if (!s[i])
			abort();
}

/* Inserts what the cursor's place says: more than there is room for, too. */
static size_t complete(void *ctx, const char *line, size_t cursor, char *insert, size_t room, bool *shown)
{
	(void)ctx;
	size_t n = cursor * 7 % room;
	memset(insert, line[0] ? line[0] : 'x', n);
	*shown = cursor & 1;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct lineedit e;
	const char *words[COMMAND_WORDS], *why;

	lineedit_init(&e, "> ", out, complete, NULL);
	lineedit_start(&e);
	for (size_t i = 0; i < bytes; i++) {
		bool line = lineedit_key(&e, (char)data[i]);
		if (e.length >= LINEEDIT_BYTES || e.cursor > e.length || e.line[e.length])
			abort();
		if (!line)
			continue;
		char copy[LINEEDIT_BYTES];
		memcpy(copy, e.line, sizeof(copy));
		int n = command_split(copy, words, COMMAND_WORDS, &why);
		for (int k = 0; k < n; k++)
			if (words[k] < copy || words[k] + strlen(words[k]) >= copy + sizeof(copy))
				abort();
		lineedit_start(&e);
	}
	return 0;
}
