/* Pure. What a misspelt word may have meant. */
#pragma once

#include "vmm/base/types.h"

struct nearest {
	const char *word;
	const char *best; /* of the candidates so far; NULL: none is close */
	uint32_t least;   /* its distance */
};

void nearest_begin(struct nearest *n, const char *word);
/* `candidate` must stay: `best` points to it. Of several that are as close the first is kept. */
void nearest_try(struct nearest *n, const char *candidate);
