"""What the reclaim ladder is judged by: guests whose memory sums to 1.3, 2 and 3 times the pool, with balloon
drivers of every manner, verify every byte while an operator sets targets, stops, destroys and creates them.

    tests/system/mix.py [--seconds S] [--seed N] [--only RATIO:MANNER ...] [--doc FILE]

Without --only: the whole table, S seconds in all, two machines at a time; test_reclaim.py runs a cut of it.
Times are the hypervisor's own (`uptime`). Writes build/system/soak.md, and FILE.
"""
import argparse
import random
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import OUT, TOP, Machine, MachineError  # noqa: E402

POOL_MIB = 48  # all sizes are halves of these in a small cell
GUEST_MIB = 16
MIN_MIB = 4
GUESTS = {"1.3": 4, "2": 6, "3": 9}  # memory of all over the pool's
MANNERS = ("cooperative", "absent", "liar", "slow", "greedy")
MIXES = (*MANNERS, "mixed")
WORK = "run=hog:2M run=still:8M run=heap:1M run=cache:1M"
WORK_SMALL = "run=hog:1M run=still:4M:8M run=heap:512K run=cache:512K"
RUNGS = ("zero", "balloon", "drop", "share", "compress", "swap")
PROCESSES = WORK.count("run=")
ALIVE = ("run", "sleep", "new")  # states of a process in the guest's ps
DEADLINE_MS = 2000  # the configuration's default; a guest without a driver has none
GIVE_UP_MS = 20000  # past the deadline; then the target counts as missed
HV_COLUMNS = ("ratio", "drivers", "guests", "targets", "median ms", "worst ms", "past deadline", "missed", "wrong bytes",
              "dead", "killed in a guest", "audit", *RUNGS, "passes")


def config(ratio, manner, small=False):
    """Guests are named by their number and manner: mixed ones take turns."""
    part, work = (2, WORK_SMALL) if small else (1, WORK)
    guests = [(f"g{i}-{m}", m) for i in range(GUESTS[ratio])
              for m in (MANNERS[i % len(MANNERS)] if manner == "mixed" else manner,)]
    nodes = "\n".join(f'\t\t{name} {{ memory = "{GUEST_MIB // part}M"; min = "{MIN_MIB // part}M"; kernel = "guest.elf"; disk = "32M"; '
                      f'cmdline = "{work} balloon={m}"; }};' for name, m in guests)
    swap = max(64, GUEST_MIB * len(guests) - POOL_MIB + 32) // part
    return [name for name, _ in guests], f"""/dts-v1/;
/ {{
	compatible = "aerostat,config-1";
	pool = "{POOL_MIB // part}M";
	swap = "{swap}M";
	disk {{ index = <1>; }};
	guests {{
{nodes}
	}};
}};
"""


class Cell:
    """One machine with one mix; what it did and what was found."""

    def __init__(self, ratio, manner, seed, small=False, make_machine=Machine):
        self.ratio, self.manner = ratio, manner
        self.guests, self.config = config(ratio, manner, small)
        self.memory_kib, self.min_kib = ((mib << 10) // (1 + small) for mib in (GUEST_MIB, MIN_MIB))
        self.dice = random.Random(f"{seed} {ratio} {manner}")
        self.machine = make_machine(f"mix-{ratio}-{manner}")
        self.took, self.late, self.missed, self.problems = [], [], [], []
        self.errors = self.dead = self.killed = self.passes = self.audit_problems = 0
        self.rungs = dict.fromkeys(RUNGS, 0)
        self.may_end = ()

    # ---- what the machine says --------------------------------------------------------------

    def now_ms(self):
        return self.machine.cmd_json("uptime")["uptime_ms"]

    def why(self, guest):
        return self.machine.cmd_json(f"mem-why {guest}")

    def processes(self, guest):
        """(passes, errors, how it is, what) of each workload."""
        found = []
        for line in self.machine.guest_shell(guest, "ps", 120).splitlines():
            row = line.split()
            if len(row) >= 10 and row[0].isdigit():
                found.append((int(row[6]), int(row[7]), row[1], row[9]))
        return found

    # ---- what an operator does --------------------------------------------------------------

    def wait_reached(self, guest, kib, since_ms):
        """Memory of the guest's that has frames is down to the target: how long it took."""
        deadline = 0 if guest.endswith("-absent") else DEADLINE_MS
        while True:
            why = self.why(guest)
            took = self.now_ms() - since_ms
            if why["resident_kib"] <= kib:
                self.took.append(took)
                self.late.append(max(0, took - deadline))
                return
            if took > deadline + GIVE_UP_MS:
                self.missed.append(f"{guest} has {why['resident_kib']} KiB, {kib} were asked for {took} ms ago: "
                                   f"{why['limit']}")
                return
            time.sleep(0.01)

    def set_target(self, guests):
        kib = self.dice.randrange(self.min_kib, self.memory_kib + 1, 256)
        name = guests[0] if len(guests) == 1 else "all"
        since = self.now_ms()
        self.machine.cmd(f"mem-set {name} {kib}K")
        for guest in guests:
            self.wait_reached(guest, kib, since)

    def set_one(self):
        self.set_target([self.dice.choice(self.guests)])

    def set_all(self):
        self.set_target(self.guests)

    def stop_for_a_while(self):
        guest = self.dice.choice(self.guests)
        self.machine.cmd(f"pause {guest}")
        if self.dice.random() < 0.5:
            self.set_target([guest])
        self.machine.cmd(f"unpause {guest}")

    def replace(self):
        guest = self.dice.choice(self.guests)
        self.machine.cmd(f"destroy {guest}", 120)
        self.machine.cmd(f"create {guest}", 120)

    # ---- what is looked for -----------------------------------------------------------------

    def note(self, text):
        if text not in self.problems:
            self.problems.append(text)

    def look(self):
        """Nobody died, found a wrong byte or killed a process, and no frame is lost. Of the last look only."""
        self.dead = self.killed = self.errors = self.passes = 0
        rows = {g["name"]: g for g in self.machine.cmd_json("list")["guests"]}
        for guest in self.guests:
            row = rows.get(guest, {"state": "gone", "reason": ""})
            if row["state"] != "running":
                self.dead += 1
                self.note(f"{guest} is {row['state']}: {row['reason']}")
                continue
            found = self.processes(guest)
            self.passes += sum(passes for passes, _, _, what in found if what == "still")
            self.errors += sum(errors for _, errors, _, _ in found)
            ended = [how for _, _, how, _ in found if how not in (*ALIVE, *self.may_end)]
            self.killed += len(ended)
            if ended or len(found) < PROCESSES:
                self.note(f"{guest}: {len(found)} of {PROCESSES} processes, {', '.join(ended)}")
        report = self.machine.cmd_json("mem-audit", 120)
        self.audit_problems += report["problems"]
        for message in report["messages"]:
            self.note(f"audit: {message}")
        for rung in self.machine.cmd_json("mem-state")["rungs"]:
            if rung["name"] in self.rungs:
                self.rungs[rung["name"]] = rung["pages"]

    def wait_passes(self, seconds, whose):
        """Each of these workloads, in every guest, verifies all its memory once more."""
        def now(guest):
            return [p[0] for p in self.processes(guest) if p[3] in whose and p[2] in ALIVE]
        before = {g: now(g) for g in self.guests}
        deadline, left = time.monotonic() + seconds, list(self.guests)
        while left and time.monotonic() < deadline:
            time.sleep(1)
            left = [g for g in left if any(n <= was for n, was in zip(now(g), before[g]))]
        for guest in left:
            self.note(f"{guest} did not read all its memory ({', '.join(whose)}) within {seconds} s")

    def all_read_again(self, seconds):
        """With all the memory that there is. Those that are busy all the time first; then they end, and make room for
        what has lain still: nine guests that page by themselves on one core take minutes for it otherwise."""
        self.machine.cmd(f"mem-set all {self.memory_kib}K")
        self.wait_passes(seconds, ("hog", "heap", "cache"))
        self.look()
        self.may_end = ("killed",)
        for guest in self.guests:
            for pid in [line.split()[0] for line in self.machine.guest_shell(guest, "ps", 120).splitlines()
                        if re.search(r" (hog|heap|cache) ", line)]:
                self.machine.guest_shell(guest, f"kill {pid}", 120)
        self.wait_passes(seconds, ("still",))

    # ---- the whole of it --------------------------------------------------------------------

    def run(self, seconds, steps=0, **options):
        """`seconds` and `steps` at least. What goes wrong is noted, and the cell ends."""
        try:
            (OUT / f"{self.machine.name}.log").unlink(missing_ok=True)
            self.machine.boot(config=self.config, **options)
            end, done = time.monotonic() + seconds, 0
            while done < steps or time.monotonic() < end:
                self.dice.choices((self.set_one, self.set_all, self.stop_for_a_while, self.replace), (12, 2, 2, 1))[0]()
                done += 1
            self.look()
            self.all_read_again(180)
            self.look()
            self.machine.shutdown()
        except (MachineError, KeyError) as e:
            self.note(f"the machine: {str(e)[-1500:]}")
        finally:
            self.machine.close()
        return self

    def good(self):
        return not (self.problems or self.missed or self.errors or self.dead or self.killed or self.audit_problems)

    def row(self):
        return (self.ratio, self.manner, len(self.guests), len(self.took) + len(self.missed),
                round(statistics.median(self.took)) if self.took else "-", max(self.took, default="-"),
                max(self.late, default="-"), len(self.missed), self.errors, self.dead, self.killed,
                self.audit_problems, *self.rungs.values(), self.passes)

    def text(self):
        return "\n".join([f"{self.ratio} x, {self.manner}:", *self.missed, *self.problems])


def markdown(cells, seconds, seed):
    commit = subprocess.run(["git", "-C", TOP, "log", "-1", "--format=%h of %cs"], capture_output=True, text=True,
                            check=False).stdout.strip()
    late = [ms for c in cells for ms in c.late]
    head = f"""# The soak: every mix of balloon drivers, at every degree of overcommitment

Written by `make soak DOCS=1` (tests/system/mix.py); not by hand. {commit}, {seconds:g} s in all, seed {seed}, SVM in QEMU with 4 processors,
two machines at a time. Pool {POOL_MIB} MiB; guests of {GUEST_MIB} MiB with a min of {MIN_MIB}, each with `{WORK}`: every byte that they
write is verified, over and over. Meanwhile an operator sets random targets, stops guests, destroys and creates them.

- **targets**: `mem-set` of a guest (or of all), each waited for: its frames are down to what was asked. Milliseconds by the hypervisor's
  clock; **past deadline**: the worst beyond the guest's deadline (2 s; 0 for one without a driver). Over the whole table: {max(late, default=0)} ms.
  **missed**: not within {GIVE_UP_MS // 1000} s past the deadline.
- **wrong bytes**, **dead** guests, processes **killed in a guest**, **audit** problems: what must be 0.
- **{RUNGS[0]}** to **{RUNGS[-1]}**: pages that each rung gave, as the hypervisor counts them. **passes**: of `still`, slowly, over all its memory.

| {' | '.join(HV_COLUMNS)} |
|{'---|' * len(HV_COLUMNS)}
"""
    rows = "".join(f"| {' | '.join(map(str, c.row()))} |\n" for c in cells)
    bad = "".join(f"\n{c.text()}\n" for c in cells if not c.good())
    return head + rows + (f"\n## What went wrong\n```{bad}```\n" if bad else "")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=600)
    p.add_argument("--seed", default="1")
    p.add_argument("--only", action="append", default=[], metavar="RATIO:MANNER")
    p.add_argument("--doc", type=Path, action="append", default=[OUT / "soak.md"])
    opts = p.parse_args()
    wanted = [tuple(o.split(":")) for o in opts.only] or [(r, m) for r in GUESTS for m in MIXES]
    each = opts.seconds / len(wanted)

    def one(what):
        cell = Cell(*what, opts.seed).run(each, emulator="qemu", cpus=4, timeout=each + 1200)
        print(f"soak {cell.ratio:>4} x {cell.manner:<12} {'ok' if cell.good() else 'FAILED'}  "
              f"{len(cell.took)} targets, worst {max(cell.took, default=0)} ms", flush=True)
        if not cell.good():
            print(re.sub("^", "     ", cell.text(), flags=re.M), flush=True)
        return cell
    with ThreadPoolExecutor(2) as pool:
        cells = list(pool.map(one, wanted))
    for path in opts.doc:
        path.write_text(markdown(cells, opts.seconds, opts.seed))
    bad = sum(not c.good() for c in cells)
    print(f"{len(cells) - bad} passed, {bad} failed")
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
