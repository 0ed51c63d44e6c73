/* policy-trace. */
#include "vmm/base/parse.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/overcommit.h"

#define TRACE_MAX 10000u

void cmd_policy_trace(const struct command_args *a)
{
	uint64_t steps = 10;

	if (a->count && parse_u64(a->word[0], TRACE_MAX, &steps) != OK) {
		command_error("policy-trace: should be a number of steps, 0 to %u", TRACE_MAX);
		return;
	}
	overcommit_trace((uint32_t)steps);
	console_printf("the next %lu steps of the policy go to the log and here\n", steps);
}
