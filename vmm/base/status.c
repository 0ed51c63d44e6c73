#include "vmm/base/status.h"

static const char *const text[STATUS_COUNT] = {
	[OK] = "ok",
	[ERR_NOMEM] = "out of memory",
	[ERR_INVAL] = "invalid argument",
	[ERR_RANGE] = "out of range",
	[ERR_NOENT] = "no such thing",
	[ERR_EXIST] = "exists already",
	[ERR_BUSY] = "busy",
	[ERR_PERM] = "not allowed",
	[ERR_IO] = "input/output error",
	[ERR_NOSYS] = "not supported here",
	[ERR_LIMIT] = "a limit would be exceeded",
	[ERR_FORMAT] = "malformed",
	[ERR_CORRUPT] = "corrupt",
};

const char *status_text(status_t s)
{
	return (unsigned int)s < STATUS_COUNT ? text[s] : "unknown status";
}
