"""Commands while the log talks all the time: each answer is that of its own command. Lines of the log take the prompt and
what is being typed away and draw them again, before, amid and behind an echo; from CPU 0 and from the others."""
import random
import re

from hogs import rows
from machine import LOG_LINE, screen

BACKENDS = ("svm",)  # nothing here is the processor's
SEVERAL_CPUS = True
COMMANDS = 500
CRASH_EVERY = 25
GUESTS = [f"vm{i}" for i in range(4)]
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "40M";
	disk { index = <1>; };
	guests {
		vm { count = <4>; memory = "8M"; min = "4M"; kernel = "guest.elf"; disk = "16M"; cmdline = "run=hog:3M"; };
		bad { memory = "8M"; min = "2M"; kernel = "guest.elf"; cmdline = "tests"; };
	};
};
"""


def nothing(machine, dice, n):
    guest = dice.choice(GUESTS)
    return machine.cmd(f"{dice.choice(('pause', 'unpause'))} {guest}"), rf"|error: {guest} is (paused|running).*"


def a_line(machine, dice, n):
    guest, mib = dice.choice(GUESTS), dice.randint(4, 8)
    return machine.cmd(f"mem-set {guest} {mib}M"), rf"{guest}: {mib}M.*"


def what_was_typed(machine, dice, n):
    word = f"no-{n}{'-x' * dice.randint(0, 20)}"
    return machine.cmd(word), f'error: unknown command "{word[:20]}.*'


def a_table(machine, dice, n):
    guest = dice.choice(GUESTS)
    return machine.cmd(f"list {guest}"), rf"Name +ID .*\n{guest} .*(\ntotal .*)?"


def json(machine, dice, n):
    guest = dice.choice(GUESTS)
    return machine.cmd_json(f"list {guest}")["guests"][0]["name"], guest


def empty(machine, dice, n):
    return machine.cmd("  "), ""


def crash(machine):
    """On whichever CPU it runs."""
    machine.attach("bad")
    machine.child.send("crash triple\r")
    machine.detach()


def test_each_answer_is_its_commands_own(machine):
    dice = random.Random(7)
    begin = machine.said()
    machine.cmd("policy-trace 10000")
    for n in range(COMMANDS):
        if n % CRASH_EVERY == 0:
            crash(machine)
        said, expected = dice.choice((nothing, a_line, what_was_typed, a_table, json, empty))(machine, dice, n)
        assert re.fullmatch(expected, said), f"command {n}: {said!r}, not {expected!r}"
        if n % CRASH_EVERY == CRASH_EVERY - 1:
            machine.wait_log("guest bad crashed", since=begin)
            begin = machine.said()
            assert machine.cmd("destroy bad") == ""
            assert re.fullmatch(r"bad: id \d+.*", machine.cmd("create bad"))
    machine.cmd("policy-trace 0")
    assert set(rows(machine)) == {*GUESTS, "bad"}
    machine.log.flush()
    with open(machine.log.name, encoding="utf-8", errors="replace") as f:
        logged = sum(bool(LOG_LINE.match(line)) for line in screen(f.read()))
    assert logged > COMMANDS // 2, f"only {logged} lines came meanwhile"
    print(f"{COMMANDS} commands, {logged} lines of the log")
    machine.audit()
    machine.shutdown()
