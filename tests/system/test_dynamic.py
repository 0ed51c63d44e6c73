"""A dynamic guest begins with its `memory`, sees its `max`, grows when it needs more and shrinks when it does not."""
import re

from hogs import hogs, kill_hogs, passes_more, rows, vmstat, wait_for

BACKENDS = ("svm",)
SEVERAL_CPUS = True
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "48M";
	disk { index = <1>; };
	guests {
		grows { memory = "8M"; min = "4M"; max = "32M"; dynamic; kernel = "guest.elf"; disk = "32M"; };
		other { memory = "16M"; min = "4M"; kernel = "guest.elf"; disk = "16M"; };
	};
};
"""
MIB = 256  # pages


def size(machine):
    return rows(machine)["grows"]["size_pages"]


def test_it_starts_with_its_memory_and_sees_its_max(machine):
    assert rows(machine)["grows"]["memory_pages"] == 32 * MIB
    wait_for("its balloon holds the rest", lambda: 4 * MIB <= size(machine) <= 9 * MIB)
    assert re.search(r"\b32M\b|\b3[0-2]\d{3}K?\b|32768", machine.guest_shell("grows", "free"))
    assert size(machine) <= 9 * MIB


def test_it_grows_on_demand(machine):
    machine.guest_shell("grows", "run hog 20M")
    wait_for("it has 20 MiB and more", lambda: size(machine) >= 20 * MIB, 60)
    passes_more(machine, "grows")
    assert hogs(machine, "grows")[0][2] == 0 and vmstat(machine, "grows", "oom_kills") == 0
    machine.audit()


def test_it_shrinks_when_it_idles(machine):
    kill_hogs(machine, "grows")
    wait_for("it is down to what it needs", lambda: size(machine) <= 10 * MIB, 90)
    assert size(machine) >= 4 * MIB
    assert rows(machine)["grows"]["used_pages"] <= 11 * MIB
    machine.audit()


def test_it_grows_again_and_obeys_its_operator(machine):
    machine.cmd("mem-set grows 12M")
    machine.guest_shell("grows", "run hog 9M")
    passes_more(machine, "grows")
    assert size(machine) <= 12 * MIB
    machine.cmd("mem-set grows 32M")
    machine.guest_shell("grows", "run hog 12M")
    wait_for("it has grown past 21 MiB", lambda: size(machine) >= 21 * MIB, 60)
    machine.audit()
    machine.shutdown()
