/* Pure. Whether the loader's hand-over can be used. */
#pragma once

#include "boot/handoff.h"
#include "vmm/base/status.h"

#define HANDOFF_CHECK_BYTES 160

/* ERR_FORMAT with a sentence in `why`. Reads magic, version and size before anything else. */
status_t handoff_check(const struct handoff *h, char why[HANDOFF_CHECK_BYTES]) MUST_CHECK;
