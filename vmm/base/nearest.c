/* Pure. See vmm/base/nearest.h. */
#include "vmm/base/nearest.h"

#include "vmm/base/string.h"

#define WORD_MAX 15u /* characters; longer words are far from everything */
#define CLOSE    2u  /* edits */
#define PREFIX   3u  /* so many characters that begin a candidate are meant to be it */

/* Edits (insert, delete, replace) between two short words; large for a long one. */
static uint32_t distance(const char *a, const char *b)
{
	uint32_t row[WORD_MAX + 2], n = (uint32_t)strlen(b);

	if (n > WORD_MAX || strlen(a) > WORD_MAX)
		return UINT32_MAX;
	for (uint32_t j = 0; j <= n; j++)
		row[j] = j;
	for (uint32_t i = 1; a[i - 1]; i++) {
		uint32_t diagonal = row[0];
		row[0] = i;
		for (uint32_t j = 1; j <= n; j++) {
			uint32_t above = row[j];
			uint32_t cost = diagonal + (a[i - 1] != b[j - 1]);
			row[j] = MIN(cost, MIN(above, row[j - 1]) + 1);
			diagonal = above;
		}
	}
	return row[n];
}

void nearest_begin(struct nearest *n, const char *word)
{
	/* One character is two edits from too much. */
	*n = (struct nearest){ .word = word, .least = word[0] && word[1] ? CLOSE + 1 : 1 };
}

void nearest_try(struct nearest *n, const char *candidate)
{
	size_t typed = strlen(n->word);
	uint32_t d = typed >= PREFIX && !strncmp(n->word, candidate, typed) ? 1 :
									       distance(n->word, candidate);

	if (d < n->least) {
		n->least = d;
		n->best = candidate;
	}
}
