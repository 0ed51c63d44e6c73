#include "tests/fake/vector.h"
#include "vmm/base/bug.h"

_Thread_local uint32_t fake_vector_count;
static _Thread_local bool used;

void vector_begin(void)
{
	HV_BUG_ON(used);
	used = true;
	fake_vector_count++;
}

void vector_end(void)
{
	HV_BUG_ON(!used);
	used = false;
}

bool vector_survives(void (*work)(void *ctx), void *ctx)
{
	work(ctx);
	return !used;
}
