#!/usr/bin/python3
"""Benchmarks, in ticks (Bochs counts one an instruction): lines `bench NAME VALUE UNIT`.

Each has a bound from the issue; a figure above it is marked and makes the exit code 1.
bench.py [--cpu-model corei7_skylake_x]
"""
import argparse
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests/system"))
from machine import Machine  # noqa: E402

# name: (bound or None, what Linux 6.1's KVM needs in the same emulator, field.md / lab.md)
BOUNDS = {
    "cpuid_exit": (120, 968),
    "hypercall_null": (110, 1003),
    "fault_4k": (900, 6172),
    "fault_4k_nozero": (350, 2867),
    "fault_read_zero": (None, None),
    "balloon_inflate_4k": (700, 5430),
    "balloon_deflate_4k": (None, None),
    "balloon_cycle_4k": (1600, 12048),
    "balloon_inflate_2m": (5000, 17933),
    "frame_metadata": (32, None),
    "hypervisor_memory": (4096, None),
    "boot_to_first_guest": (None, None),
}


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--cpu-model", default="corei7_skylake_x")
    args = args.parse_args()
    figures = {}
    machine = Machine("bench")
    try:
        machine.boot(config=TOP / "tests/bench/bench.dts", emulator="bochs", cpu_model=args.cpu_model, memory="256M")
        out = machine.guest_shell("bench", "bench all", 240)
        for name, value, unit in re.findall(r"^bench (\S+) (\d+) (\S+)", out, re.M):
            figures[name] = (int(value), unit)
        info = machine.cmd_json("info")
        figures["frame_metadata"] = (info["frame_metadata_bytes"], "bytes")
        figures["hypervisor_memory"] = (info["hypervisor_image_kib"] + info["hypervisor_heap_kib"] +
                                        info["hypervisor_tables_kib"], "KiB")
        figures["boot_to_first_guest"] = (info["boot_to_first_guest_ticks"], "ticks")
        machine.audit()
        machine.shutdown()
    finally:
        machine.close()
    bad = 0
    for name, (bound, kvm) in BOUNDS.items():
        if name not in figures:
            print(f"# {name}: not measured")
            bad += 1
            continue
        value, unit = figures.pop(name)
        over = bound is not None and value > bound
        bad += over
        note = [f"bound {bound}" if bound else "", f"KVM {kvm}" if kvm else "", "OVER" if over else ""]
        print(f"bench {name} {value} {unit}" + "  # ".join(["", ", ".join(n for n in note if n)]))
    for name, (value, unit) in figures.items():
        print(f"bench {name} {value} {unit}")
    sys.exit(1 if bad else 0)


main()
