"""Ten guests of 16 MiB on 120 MiB want their memory in the same moment: nobody is served much later than another."""
import re

from hogs import all_alive, wait_for
from machine import OUT

SEVERAL_CPUS = True
CONFIG = "demo"
GUESTS = [f"vm{i}" for i in range(10)]
ROUNDS = 5
WORST_OVER_BEST = 1.5
SAID = re.compile(r"spike began at (\d+) ms, served after (\d+) ms")


def clock_ms(machine):
    """The TSC, which all guests share."""
    return int(re.search(r"shared clock (\d+) ms", machine.guest_shell(GUESTS[0], "uptime")).group(1))


def spike(machine):
    """(when it began, after how many ms it had all that it wanted) of each guest, in any order."""
    before = clock_ms(machine)
    now = clock_ms(machine)
    second = (now + 3000 + 20 * (now - before)) // 1000  # when all will have been told
    told = machine.log.tell()
    for guest in GUESTS:
        machine.guest_shell(guest, f"run spike 14M {second}")

    def said():
        for guest in GUESTS:  # what it said comes up, and into the transcript
            machine.guest_shell(guest, "echo")
        machine.log.flush()
        with open(machine.log.name, encoding="utf-8", errors="replace") as f:
            f.seek(told)
            return [(int(begin), int(ms)) for begin, ms in SAID.findall(f.read())]
    wait_for("all ten were served", lambda: len(said()) == len(GUESTS), 240)
    return said()


def test_nobody_is_served_much_later(machine):
    """The best of some rounds: the machine under the emulator has other things to do, too."""
    rounds, tried = [], 0
    for _ in range(ROUNDS):
        for guest in GUESTS if tried else ():  # what each holds from the last time is not the same
            machine.cmd(f"destroy {guest}", 120)
            machine.cmd(f"create {guest}", 120)
        said, tried = spike(machine), tried + 1
        if len({begin for begin, _ in said}) == 1:
            rounds.append(sorted(ms for _, ms in said))
            if rounds[-1][-1] <= WORST_OVER_BEST * rounds[-1][0]:
                break
    (OUT / f"{machine.name}.txt").write_text("".join(f"{r}\n" for r in rounds))
    assert rounds, "they never began together"
    assert min(r[-1] / r[0] for r in rounds) <= WORST_OVER_BEST, f"served after {rounds} ms"
    all_alive(machine)
    machine.audit()
