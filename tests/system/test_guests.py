"""Guests that misbehave: each alone suffers, the others verify on, and mem-audit is clean after each."""
import re

import pytest
from hogs import wait_for
from machine import BACKEND

CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "48M";
	debug;
	disk { index = <1>; };
	guests {
		good { memory = "16M"; min = "8M"; kernel = "guest.elf"; disk = "32M"; cmdline = "run=hog:6M"; };
		bad { memory = "16M"; min = "4M"; kernel = "guest.elf"; disk = "16M"; cmdline = "tests"; debug; };
		heir { memory = "24M"; min = "4M"; kernel = "guest.elf"; cmdline = "tests"; noauto; };
	};
};
"""
LETTER = {"running": "rb", "crashed": "c", "shutdown": "s"}


def guests(machine):
    """Name to state letters, by `list`."""
    rows = (line.split() for line in machine.cmd("list").splitlines()[1:])
    return {row[0]: row[4] for row in rows if len(row) >= 5}


def state_is(machine, guest, what, seconds=60):
    wait_for(f"{guest} is {what}", lambda: any(c in guests(machine).get(guest, "") for c in LETTER[what]), seconds)


def passes(machine, guest="good", work="hog"):
    """Passes that the guest's processes of this kind have verified; they must have found no error."""
    rows = [line.split() for line in machine.guest_shell(guest, "ps").splitlines()]
    found = [row for row in rows if work in row]
    assert found, rows
    assert all(row[7] == "0" for row in found), found  # ERRORS
    return sum(int(row[6]) for row in found)


def good_goes_on(machine, seconds=120):
    """The good guest completes another pass, and all pages are where they should be."""
    before = passes(machine)
    wait_for("the good guest makes progress", lambda: passes(machine) > before, seconds)
    machine.audit()


def fresh(machine, guest="bad"):
    """Whatever it was: destroyed, and created again from the configuration."""
    if guest in guests(machine):
        machine.cmd(f"destroy {guest}")
    machine.cmd(f"create {guest}")
    state_is(machine, guest, "running")


def send_only(machine, guest, line):
    """A command after which no prompt comes."""
    machine.attach(guest)
    machine.child.send(line + "\r")
    machine.wait(re.escape(line) + "\r*\n")
    machine.detach()


@pytest.mark.parametrize("kind", ["addresses", "balloon", "block", "hypercalls", "shadow"])
def test_bad_calls_are_refused(machine, kind):
    text = machine.guest_shell("bad", f"evil {kind}", 120)
    assert f"PASS evil {kind}" in text, text
    assert "FAIL" not in text, text
    state_is(machine, "bad", "running")
    good_goes_on(machine)


def test_touching_a_ballooned_page_takes_it_back(machine):
    text = machine.guest_shell("bad", "evil touch")
    assert "PASS evil touch" in text and "FAIL" not in text, text
    good_goes_on(machine)


@pytest.mark.parametrize("kind", ["cli", "yield", "doze"])
def test_it_wants_the_processor_for_ever(machine, kind):
    """With interrupts off; by turns that are over at once; by naps of no time."""
    send_only(machine, "bad", f"evil {kind}")
    good_goes_on(machine)
    stats = machine.cmd_json("stats bad")
    assert kind != "yield" or stats["hypercalls"]["yield"] > 100, stats
    assert kind != "cli" or BACKEND == "svm" or stats["exits"]["pause-loop"] > 100, stats  # QEMU has no filter
    state_is(machine, "bad", "running")
    fresh(machine)
    assert "free" in machine.guest_shell("bad", "free")


def test_triple_fault(machine):
    send_only(machine, "bad", "evil triple")
    state_is(machine, "bad", "crashed")
    assert "triple fault at rip 0x" in machine.cmd("list"), "the reason is not in the list"
    good_goes_on(machine)
    fresh(machine)


def test_reading_past_its_memory(machine):
    """A general protection fault of the guest's own, which its kernel cannot survive."""
    machine.attach("bad")
    machine.child.send("evil outside\r")
    machine.wait(re.compile(r"vector 13"), 30)
    machine.detach()
    state_is(machine, "bad", "crashed")
    good_goes_on(machine)
    fresh(machine)


def test_oops_is_readable(machine):
    machine.attach("bad")
    machine.child.send("crash oops\r")
    machine.wait(re.compile(r"oops: page fault \(vector 14, error 0x2\)"), 30)
    machine.wait("r15 0x", 30)
    machine.detach()
    state_is(machine, "bad", "crashed")
    good_goes_on(machine)
    fresh(machine)


def test_a_new_guest_finds_only_zeroes(machine):
    """The bad guest fills its memory and is destroyed; its heir gets those frames."""
    machine.guest_shell("bad", "run hog 12M 1")
    machine.guest_shell("bad", "wait 1", 90)
    machine.cmd("destroy bad")
    machine.cmd("create heir")
    state_is(machine, "heir", "running")
    text = machine.guest_shell("heir", "zeroes", 90)
    assert re.search(r"zeroes: PASS [1-9]\d{3,} pages", text), text
    machine.guest_shell("heir", "run heap 16M")
    wait_for("its heap was collected", lambda: passes(machine, "heir", "heap") > 0, 120)
    machine.cmd("destroy heir")
    good_goes_on(machine)
    fresh(machine)


def test_poweroff(machine):
    send_only(machine, "bad", "poweroff")
    state_is(machine, "bad", "shutdown")
    good_goes_on(machine)
    fresh(machine)


def test_processes_die_alone(machine):
    """More than memory and swap: the guest's own kernel kills the process, the guest lives."""
    machine.guest_shell("bad", "run hog 4M 1")
    machine.attach("bad")
    machine.child.send("run hog 200M\r")
    machine.wait("oom: killed pid", 120)
    machine.detach()
    assert "oom" in machine.guest_shell("bad", "ps")
    good_goes_on(machine)
