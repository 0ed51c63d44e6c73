"""All mitigations forced on: the guarded run loop, and 2 MiB leaves that may not be executed from. Guests verify on, their
code's leaves are broken once and not again and again, and the balloon takes and gives 2 MiB as ever."""
from hogs import wait_for

SEVERAL_CPUS = True
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "120M";
	debug;
	mitigations = "force";
	disk { index = <1>; };
	guests {
		big { memory = "32M"; min = "8M"; kernel = "guest.elf"; huge; disk = "16M"; cmdline = "run=hog:8M"; };
		small { memory = "16M"; min = "8M"; kernel = "guest.elf"; disk = "16M"; cmdline = "run=hog:6M"; };
	};
};
"""
GUESTS = ("big", "small")
LEAVES = {"big": 16, "small": 8}  # 2 MiB in each


def faults(machine, guest):
    return machine.cmd_json(f"stats {guest}")["faults"]


def pages(machine, guest):
    return machine.cmd_json(f"stats {guest}")["pages"]


def passes(machine, guest):
    rows = [line.split() for line in machine.guest_shell(guest, "ps").splitlines()]
    found = [row for row in rows if "hog" in row]
    assert found, rows
    assert all(row[7] == "0" for row in found), found  # ERRORS
    return sum(int(row[6]) for row in found)


def goes_on(machine, guest, more=2):
    goal = passes(machine, guest) + more
    wait_for(f"{guest} makes passes", lambda: passes(machine, guest) >= goal, 240)


def reached(machine, guest):
    return all(g["reached"] for g in machine.cmd_json("balloon")["guests"] if g["name"] == guest)


def test_what_is_done_is_said(machine):
    told = machine.cmd_json("info")["mitigations"]
    for word in ("verw", "rsb", "registers", "large pages not executable"):
        assert word in told
    assert told in machine.cmd("info")
    assert f"mitigations: {told}" in machine.cmd("dmesg")


def test_code_in_large_leaves(machine):
    wait_for("big's first leaves", lambda: pages(machine, "big")["in_2m"] > 0, 120)
    wait_for("big's code was in one", lambda: faults(machine, "big")["fault_exec_2m"] > 0, 120)
    for guest in GUESTS:
        goes_on(machine, guest)
    before = {guest: faults(machine, guest)["fault_exec_2m"] for guest in GUESTS}
    assert all(before[guest] <= LEAVES[guest] for guest in GUESTS), before
    for guest in GUESTS:
        goes_on(machine, guest, 4)
        # Another leaf may have come to hold code, a broken one does not break again.
        assert faults(machine, guest)["fault_exec_2m"] <= LEAVES[guest]
    machine.audit()


def test_the_balloon_takes_and_gives_large_pages(machine):
    for _ in range(2):
        machine.cmd("mem-set big 14M")
        wait_for("big is small", lambda: reached(machine, "big"), 120)
        machine.audit()
        machine.cmd("mem-set big 32M")
        wait_for("big is big", lambda: reached(machine, "big"), 120)
    assert machine.cmd_json("stats big")["balloon"]["inflated_2m"] > 0
    # A new process in memory that came back, its code too.
    assert " hog 10M" in machine.guest_shell("big", "run hog 10M")
    for guest in GUESTS:
        goes_on(machine, guest, 3)
    assert faults(machine, "big")["fault_exec_2m"] <= 3 * LEAVES["big"]  # each 2 MiB was new at most thrice
    machine.audit()
