# Aerostat. `make run` boots it, `make test` runs every test, `make help` lists the rest.
SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc) # those that it calls share these jobs
endif
B := build
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
PYTHON := /usr/bin/python3

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Werror
COMMON := -std=gnu11 -g -I. $(WARN) -fno-strict-aliasing
ifeq ($(DEBUG),1)
COMMON += -DAEROSTAT_DEBUG
endif
FREESTANDING := -ffreestanding -mno-red-zone -fno-pic -fno-pie -fno-stack-protector \
	-fcf-protection=none -fno-asynchronous-unwind-tables -fno-common

.PHONY: all help deps image objs unit fuzz test bench soak simulate run clean check
all: image

help:
	@echo 'make            build everything into build/'
	@echo 'make run        boot it here (ARGS="--help" for the launcher'"'"'s options)'
	@echo 'make test       every test; last line: N passed, N failed'
	@echo 'make unit       unit and property tests only (ASan, UBSan)'
	@echo 'make fuzz       fuzz each parser for longer (FUZZ_SECONDS=60)'
	@echo 'make bench      benchmarks in Bochs, lines "bench NAME VALUE UNIT" (EMU=bochs-svm: SVM beside VMX)'
	@echo 'make soak       guests of every manner verify their memory in QEMU (SOAK_SECONDS=600, DOCS=1: into docs/soak.md)'
	@echo 'make simulate   the real policy over modelled guests, drawn; what a step costs (ARGS="--help")'
	@echo 'make check      include directions, columns of a line, vector registers in the image'
	@echo 'make DEBUG=1    with lock-order checks and poisoning'
	@echo 'make deps       install the Debian packages that all this needs'

deps:
	@boot/deps

# ---- the hypervisor -------------------------------------------------------------------------
HV_C := $(wildcard vmm/*.c vmm/base/*.c mm/*.c balloon/*.c arch/x86/*.c arch/x86/vmx/*.c arch/x86/svm/*.c)
HV_S := $(wildcard arch/x86/*.S arch/x86/vmx/*.S arch/x86/svm/*.S)
HV_O := $(HV_C:%.c=$(B)/hv/%.o) $(HV_S:%.S=$(B)/hv/%.o)
HV_CFLAGS := $(COMMON) $(FREESTANDING) -O2 -mgeneral-regs-only -mcmodel=kernel \
	$(if $(findstring clang,$(CC)),-mstack-alignment=8,-mpreferred-stack-boundary=3)
HV_LIBS := -lfdt -l:liblz4.a

$(B)/hv/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(HV_CFLAGS) -MMD -MP -c $< -o $@
$(B)/hv/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(COMMON) $(FREESTANDING) -MMD -MP -c $< -o $@

$(B)/aerostat.elf: $(HV_O) linker.ld
	$(CC) -nostdlib -static -no-pie -Wl,-T,linker.ld -Wl,--build-id=none -Wl,-z,noexecstack \
		-Wl,-z,max-page-size=4096 -o $@ $(HV_O) $(HV_LIBS)

# ---- the minimal guest kernel and its balloon driver ----------------------------------------
GK_C := $(wildcard guest-drivers/kernel/*.c guest-drivers/balloon/*.c)
GK_S := $(wildcard guest-drivers/kernel/*.S)
GK_O := $(GK_C:%.c=$(B)/gk/%.o) $(GK_S:%.S=$(B)/gk/%.o)
GK_CFLAGS := $(COMMON) $(FREESTANDING) -O2 -mgeneral-regs-only -mcmodel=small

$(B)/gk/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(GK_CFLAGS) -MMD -MP -c $< -o $@
$(B)/gk/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(COMMON) $(FREESTANDING) -MMD -MP -c $< -o $@

$(B)/guest.elf: $(GK_O) guest-drivers/kernel/kernel.ld
	$(CC) -nostdlib -static -no-pie -Wl,-T,guest-drivers/kernel/kernel.ld -Wl,--build-id=none \
		-Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -o $@ $(GK_O)

# ---- the loader (GNU-EFI) --------------------------------------------------------------------
# boot/efi/*.c run under UEFI; boot/*.c are pure and hosted-testable too; so is vmm/base/elf.c.
EFI_C := $(wildcard boot/efi/*.c boot/*.c) vmm/base/elf.c
EFI_O := $(EFI_C:%.c=$(B)/efi/%.o)
EFI_CFLAGS := -std=gnu11 -g -O2 -I. -I/usr/include/efi -I/usr/include/efi/x86_64 -Wall -Wextra \
	-Wshadow -Werror -ffreestanding -fpic -fshort-wchar -mno-red-zone -fno-stack-protector \
	-fcf-protection=none -maccumulate-outgoing-args -fno-strict-aliasing \
	-DGNU_EFI_USE_MS_ABI -DEFI_FUNCTION_WRAPPER

$(B)/efi/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(EFI_CFLAGS) -MMD -MP -c $< -o $@

$(B)/BOOTX64.EFI: $(EFI_O)
	ld -nostdlib -znocombreloc -shared -Bsymbolic -T /usr/lib/elf_x86_64_efi.lds \
		/usr/lib/crt0-efi-x86_64.o $(EFI_O) -o $(B)/loader.so -L/usr/lib -lgnuefi -lefi \
		$$($(CC) -print-libgcc-file-name)
	objcopy -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j .rel -j .rela -j '.rel.*' \
		-j '.rela.*' -j .reloc -j .rodata --target efi-app-x86_64 --subsystem=10 \
		$(B)/loader.so $@

image: $(B)/BOOTX64.EFI $(B)/aerostat.elf $(B)/guest.elf
objs: $(HV_O) $(GK_O) $(EFI_O)

# ---- hosted: unit, property and fuzz tests ----------------------------------------------------
# Everything that decides is compiled for the build host into one archive; a test pulls what it needs.
# Under arch/x86 and guest-drivers/kernel only files whose first line says "Pure" are hosted.
HOST_C := $(filter-out vmm/base/freestanding.c,$(wildcard vmm/*.c vmm/base/*.c mm/*.c balloon/*.c \
	boot/*.c guest-drivers/balloon/*.c tests/fake/*.c)) \
	$(shell grep -lm1 '^/\* Pure' $$(find arch guest-drivers -name '*.c') /dev/null)
HOST_CFLAGS := $(COMMON) -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -DAEROSTAT_DEBUG
HOST_O := $(HOST_C:%.c=$(B)/host/%.o)
UNIT_C := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_C:tests/unit/%.c=$(B)/unit/%)

$(B)/host/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -MMD -MP -c $< -o $@
$(B)/host/libcore.a: $(HOST_O)
	@rm -f $@
	ar rcs $@ $(HOST_O)
$(B)/unit/%: tests/unit/%.c $(B)/host/libcore.a
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -Wno-missing-prototypes -MMD -MP -MF $@.d $< -o $@ $(B)/host/libcore.a -lcmocka -lfdt -l:liblz4.a

unit: $(UNIT_BIN)
	@$(PYTHON) tests/run.py unit

FUZZ_C := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_C:tests/fuzz/%.c=$(B)/fuzz/%)
FUZZ_CFLAGS := $(filter-out -Werror,$(COMMON)) -O1 -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all -DAEROSTAT_DEBUG
FUZZ_O := $(HOST_C:%.c=$(B)/fuzzobj/%.o)
$(B)/fuzzobj/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@
$(B)/fuzzobj/libcore.a: $(FUZZ_O)
	@rm -f $@
	ar rcs $@ $(FUZZ_O)
$(B)/fuzz/%: tests/fuzz/%.c $(B)/fuzzobj/libcore.a
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer $< -o $@ $(B)/fuzzobj/libcore.a -lfdt -l:liblz4.a

fuzzers: $(FUZZ_BIN)
fuzz: fuzzers
	@$(PYTHON) tests/run.py fuzz --seconds $${FUZZ_SECONDS:-60}

# ---- running ------------------------------------------------------------------------------------
check:
	@$(PYTHON) tests/run.py check

test:
	@boot/deps
	@$(MAKE) --no-print-directory -s image $(UNIT_BIN) fuzzers $(B)/host/simulate
	@$(MAKE) --no-print-directory -s DEBUG=1 B=build/debug image
	@$(PYTHON) tests/run.py all

bench:
	@boot/deps
	@$(MAKE) --no-print-directory -s image
	@$(PYTHON) tests/bench/bench.py $(if $(EMU),--emulator $(EMU))

# The policy as it is compiled for the hypervisor, or nearly; the rest around it as a program of the host.
SIM_C := $(wildcard tests/bench/*.c balloon/policy*.c) balloon/stall.c tests/fake/memsim.c vmm/base/parse.c vmm/base/fmt.c
SIM_O := $(SIM_C:%.c=$(B)/sim/%.o)
$(B)/sim/balloon/%.o: SIM_MORE := -mgeneral-regs-only
$(B)/sim/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(COMMON) -O2 -D_GNU_SOURCE $(SIM_MORE) -MMD -MP -c $< -o $@
$(B)/host/simulate: $(SIM_O)
	@mkdir -p $(@D)
	$(CC) -o $@ $(SIM_O) -lm

simulate: $(B)/host/simulate
	@$(B)/host/simulate $(ARGS)

soak:
	@boot/deps
	@$(MAKE) --no-print-directory -s image
	@$(PYTHON) tests/system/mix.py --seconds $${SOAK_SECONDS:-600} $(if $(DOCS),--doc docs/soak.md)

run:
	@boot/deps
	@$(MAKE) --no-print-directory -s image
	@boot/run $(ARGS)

clean:
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
