#include "vmm/base/directmap.h"

uintptr_t directmap_offset;
