/* What a function that may fail returns. The caller must use it; values come back by pointer. */
#pragma once

#include "vmm/base/types.h"

typedef enum status {
	OK = 0,
	ERR_NOMEM,   /* no frame now; whoever can walk the reclaim ladder may retry */
	ERR_INVAL,   /* an argument makes no sense */
	ERR_RANGE,   /* an address or number outside what exists */
	ERR_NOENT,   /* no such thing */
	ERR_EXIST,   /* there already */
	ERR_BUSY,    /* in a state that forbids it now; may pass later */
	ERR_PERM,    /* not allowed */
	ERR_IO,      /* a device said no */
	ERR_NOSYS,   /* not offered here */
	ERR_LIMIT,   /* a configured bound (min, max, pool) would be broken */
	ERR_FORMAT,  /* input does not parse */
	ERR_CORRUPT, /* an invariant does not hold */
	STATUS_COUNT
} status_t;

/* A short lower-case English phrase for `s`, never NULL. */
const char *status_text(status_t s);
