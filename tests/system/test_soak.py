"""Six guests on 1.6 times the memory verify every byte while an operator moves balloons, pauses, destroys
and creates at random. SOAK_SECONDS makes it as long as wanted, SOAK_SEED makes it another one."""
import os
import random
import time

from hogs import all_alive, hogs, passes_more, rows, vmstat, wait_for
from machine import OUT

BACKENDS = ("svm",)  # QEMU's guests are the fast ones
GUESTS = [f"vm{i}" for i in range(6)]
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "60M";
	disk { index = <1>; };
	guests {
		vm {
			count = <6>; memory = "16M"; min = "5M"; kernel = "guest.elf"; disk = "32M";
			cmdline = "run=hog:9M";
		};
	};
};
"""
OPERATIONS = 60
SECONDS = int(os.environ.get("SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SOAK_SEED", "1"))


def move_balloon(machine, dice):
    guest, mib = dice.choice([*GUESTS, "all"]), dice.randint(5, 16)
    said = machine.cmd(f"mem-set {guest} {mib}M")
    assert f"{mib}M" in said, said


def stop_for_a_while(machine, dice):
    guest = dice.choice(GUESTS)
    machine.cmd(f"pause {guest}")
    time.sleep(dice.random())
    machine.cmd(f"unpause {guest}")


def replace(machine, dice):
    guest = dice.choice(GUESTS)
    machine.cmd(f"destroy {guest}")
    assert guest not in rows(machine)
    machine.cmd(f"create {guest}")


def check(machine):
    """Nobody has found a wrong byte, nobody has died, no frame is lost."""
    all_alive(machine)
    for guest in GUESTS:
        wait_for(f"{guest}: its hog runs", lambda g=guest: len(hogs(machine, g)) == 1)
        assert all(errors == 0 for _, _, errors in hogs(machine, guest)), guest
    machine.audit()


def test_balloons_at_random(machine):
    dice = random.Random(SEED)
    end, done = time.monotonic() + SECONDS, 0
    while done < OPERATIONS or time.monotonic() < end:
        what = dice.choices((move_balloon, stop_for_a_while, replace), (8, 1, 1))[0]
        what(machine, dice)
        done += 1
        if done % 20 == 0:
            check(machine)
    machine.cmd("mem-set all 16M")
    check(machine)
    for guest in GUESTS:
        passes_more(machine, guest, 240)
        assert vmstat(machine, guest, "oom_kills") == 0, f"{guest} killed something for memory"
    check(machine)
    (OUT / "soak.txt").write_text(f"{done} operations, seed {SEED}; {sum(p for g in GUESTS for _, p, _ in hogs(machine, g))}"
                                  " passes of the hogs that are left, 0 errors\n")
    machine.shutdown()
