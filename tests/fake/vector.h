/* The vector registers of hosted tests: they count how often they were asked for, and that it pairs up. */
#pragma once

#include "vmm/base/vector.h"

extern _Thread_local uint32_t fake_vector_count; /* of vector_begin() */
