/* Of guard_flags, for the back ends' entry.S; guard.c asserts them. */
#pragma once

#define GUARD_VERW 2
#define GUARD_IBRS 16
#define GUARD_RSB  64

#define GUARD_MSR_SPEC_CTRL 0x48
