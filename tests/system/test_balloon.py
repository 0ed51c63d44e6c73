"""Ten guests of 16 MiB on 120 MiB: balloons down and up, on one and on all; every byte verifies."""
import re
import time

SEVERAL_CPUS = ("vmx",)  # one CPU of this kind overcommits in test_guests_models.py
CONFIG = "demo"
NAMES = [f"vm{i}" for i in range(10)]
MIB = 256  # pages


def run(machine, guest, what):
    assert f" {what}" in machine.guest_shell(guest, f"run {what}")


def processes(machine, guest):
    """{pid: (state, rss KiB, swap KiB, passes, errors)} of a guest's `ps`."""
    text = machine.guest_shell(guest, "ps")
    assert "CORRUPT" not in text
    rows = re.findall(r"^ +(\d+) (\w+) +(\d+)K +(\d+)K +\d+ +\d+ +(\d+) +(\d+) ", text, re.M)
    return {int(r[0]): (r[1], *map(int, r[2:])) for r in rows}


def newest(machine, guest):
    procs = processes(machine, guest)
    return max(procs), procs[max(procs)]


def kill_all(machine, guest):
    for pid, row in processes(machine, guest).items():
        if row[0] not in ("done", "exited", "dead", "zombie"):
            machine.guest_shell(guest, f"kill {pid}")


def rows(machine):
    return {g["name"]: g for g in machine.cmd_json("list")["guests"]}


def wait_until(seconds, what, probe):
    end = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < end, what
        time.sleep(0.5)


def reached(machine, names):
    guests = machine.cmd_json("balloon")["guests"]
    return all(g["reached"] for g in guests if g["name"] in names)


def check_workload(machine, guest, more_passes=1, seconds=120):
    """It is alive, makes passes from here on, and has found no wrong byte."""
    pid, row = newest(machine, guest)
    goal = row[3] + more_passes

    def probe():
        now = processes(machine, guest)[pid]
        assert now[4] == 0, f"{guest}: {now[4]} errors"
        return now[3] >= goal
    wait_until(seconds, f"{guest} makes no passes", probe)


def all_run(machine):
    assert all(g["state"] == "running" for g in rows(machine).values())


def test_ten_guests_work(machine):
    assert len(rows(machine)) == 10
    for name in NAMES:
        run(machine, name, "hog 3M")
    for name in NAMES:
        check_workload(machine, name)
    used = sum(g["used_pages"] for g in rows(machine).values())
    assert 30 * MIB <= used <= 45 * MIB, "untouched memory costs frames"
    machine.audit()
    for name in NAMES:
        kill_all(machine, name)


def test_one_guest_down_and_up(machine):
    run(machine, "vm0", "hog 10M")
    check_workload(machine, "vm0")
    assert machine.cmd("mem-set vm0 6M") == "vm0: 6M"
    wait_until(60, "target not reached", lambda: reached(machine, ["vm0"]))
    def down():
        row = rows(machine)["vm0"]
        return row["balloon_pages"] == 10 * MIB and row["used_pages"] <= 6 * MIB + 16
    wait_until(60, "not all of it is in the balloon", down)
    assert newest(machine, "vm0")[1][2] > 3 * 1024, "the guest chose pages and paged them out"
    wait_until(60, "the guest does not say so",
               lambda: re.search(r"^mem +16384 .* 10240 ", machine.guest_shell("vm0", "free"), re.M))
    check_workload(machine, "vm0")
    machine.audit()
    assert machine.cmd("mem-set vm0 16M") == "vm0: 16M"
    wait_until(60, "not given back", lambda: reached(machine, ["vm0"]))
    check_workload(machine, "vm0", 2)
    wait_until(60, "something is left in the balloon", lambda: rows(machine)["vm0"]["balloon_pages"] == 0)
    kill_all(machine, "vm0")
    machine.audit()


def test_all_guests_down_and_up(machine):
    for name in NAMES:
        run(machine, name, "hog 6M")
    check_workload(machine, "vm9")
    assert len(machine.cmd("mem-set all 5M").splitlines()) == 10
    wait_until(90, "targets not reached", lambda: reached(machine, NAMES))
    wait_until(60, "sizes", lambda: all(g["size_pages"] == 5 * MIB for g in rows(machine).values()))
    for name in NAMES:
        check_workload(machine, name)
    machine.audit()
    machine.cmd("mem-set all 16M")
    wait_until(60, "not given back", lambda: reached(machine, NAMES))
    for name in NAMES:
        check_workload(machine, name)
        kill_all(machine, name)
    machine.audit()
    all_run(machine)


def test_ends_well(machine):
    assert "exit 0" in machine.shutdown()
