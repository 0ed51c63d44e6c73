"""The ladder while its disk misbehaves: writes that fail, a disk that is late, pages that come back wrong or not at all.
Nobody loses a byte or stops but the owner of a page that is lost; the console says what is wrong, once.
One machine, in order. Swap that is full: test_faults.py; drivers and single requests: test_disk.py."""
import re

import pytest

from hogs import rows, wait_for

BACKENDS = ("svm",)  # nothing here is the processor's
SEVERAL_CPUS = True
# Nobody but `free` has a driver, so that a target is due at once. mute's random third alone is more than its least.
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "56M";
	swap = "48M";
	debug;
	disk { index = <1>; };
	guests {
		mute { memory = "16M"; min = "4M"; kernel = "guest.elf"; cmdline = "run=still:13M:8M balloon=absent"; };
		other { memory = "16M"; min = "4M"; kernel = "guest.elf"; cmdline = "run=still:6M:8M balloon=absent"; };
		free { memory = "16M"; min = "4M"; kernel = "guest.elf"; cmdline = "run=hog:2M"; };
	};
};
"""
LEAST_KIB = 4096
DELAY_MS = 60
PAST_MS = 2500  # beside another emulator on the same two cores
FAILED = "swap: disk 1 does not take writes"
LOST = r"its page at 0x[0-9a-f]+ is lost: swap slot \d+, "


def swap(machine):
    return machine.cmd_json("mem-state")["swap"]


def disk(machine):
    return next(d for d in machine.cmd_json("disks")["disks"] if d["disk"] == 1)


def why(machine, guest):
    return machine.cmd_json(f"mem-why {guest}")


def now_ms(machine):
    return machine.cmd_json("uptime")["uptime_ms"]


def told(machine, what):
    """How often the log has this."""
    return machine.cmd("dmesg").count(what)


def passes(machine, guest):
    """Of the guest's only process, which has found no wrong byte."""
    text = ""
    for _ in range(5):  # a line of the log may come in the middle of a row
        text = machine.guest_shell(guest, "ps", 120)
        row = re.search(r"^ +\d+ +(\w+) .* (\d+) +(\d+) +\d+  (still|hog) ", text, re.M)
        if row:
            assert row[1] in ("run", "sleep", "new") and row[3] == "0", text
            return int(row[2])
    raise AssertionError(f"{guest} has no workload:\n{text}")


def reads_on(machine, *guests, seconds=240):
    """Each reads all its memory again, twice: once may have begun before."""
    before = {g: passes(machine, g) for g in guests}
    for guest in guests:
        wait_for(f"{guest}: two more passes", lambda g=guest: passes(machine, g) >= before[g] + 2, seconds)


def is_small(machine, guest="mute", kib=LEAST_KIB):
    return why(machine, guest)["resident_kib"] <= kib


def stopped(machine):
    return {name: row["reason"] for name, row in rows(machine).items() if row["state"] != "running"}


def on_swap(machine, guest):
    return why(machine, guest)["swapped_kib"]


def grow(machine, guest):
    """All its memory again, and it is in it."""
    machine.cmd(f"mem-set {guest} 16M")
    reads_on(machine, guest)


def test_a_boot_with_a_disk_that_cannot_be_read(own_machine):  # first: the others' machine keeps its slot
    """By configuration: without its first page there is no swap and no disk for guests; those without one run."""
    m = own_machine
    with_disk = '\n\t\tpager { memory = "16M"; min = "4M"; kernel = "guest.elf"; disk = "32M"; };\n\t};\n};\n'
    m.boot(config=CONFIG.replace("debug;", 'debug; disk-fault = "read 1";').replace("\n\t};\n};\n", with_disk))
    log = m.cmd("dmesg")
    assert "disk-fault: the first 1 requests to disk 1 meet: read" in log, log
    assert "no swap: 48M are wanted on disk 1, but it cannot be read" in log, log
    assert "not started: guest pager wants a disk of 32M on disk 1, but it cannot be read" in log, log
    assert set(rows(m)) == {"mute", "other", "free"}
    assert disk(m)["errors"] == 1 and disk(m)["fault"] == "off"
    wait_for("the others run", lambda: passes(m, "free") >= 1)
    m.audit()
    m.shutdown()


def test_writes_that_fail(machine):
    m = machine
    wait_for("both have all their memory", lambda: min(passes(m, g) for g in ("mute", "other")) >= 1, 240)
    m.cmd("pause mute")  # or it would take back at once what could not be written
    m.cmd("disk-fault 1 write 100000")
    m.cmd(f"mem-set mute {LEAST_KIB}K")
    wait_for("swap is given up", lambda: swap(m)["failed"])
    s = swap(m)
    assert not s["on"] and s["write_errors"] >= 3 and s["unwritten"] > 0, s
    m.audit()
    # Others reach theirs by other rungs: other's zero pages and text, free's balloon.
    m.cmd("mem-set other 6M")
    m.cmd("mem-set free 8M")
    wait_for("other's target", lambda: is_small(m, "other", 6 << 10))
    wait_for("free's target", lambda: is_small(m, "free", 8 << 10))
    m.cmd("unpause mute")
    wait_for("mem-why says so", lambda: "swap has failed" in why(m, "mute")["limit"], 60)
    reads_on(m, "free", "other", "mute")  # mute, too: what could not be written is served from where it is
    assert stopped(m) == {}
    m.audit()
    assert swap(m)["failed"] and told(m, FAILED) == 1
    # The operator tries too early: that is told once more, and nothing else changes.
    errors = swap(m)["write_errors"]
    m.cmd("swap on")
    wait_for("it fails again", lambda: swap(m)["failed"] and told(m, FAILED) == 2)
    assert swap(m)["write_errors"] > errors
    m.audit()


def test_the_disk_comes_back(machine):
    m = machine
    assert swap(m)["failed"]
    before = told(m, FAILED)
    m.cmd("swap on")
    wait_for("the target is reached after all", lambda: is_small(m))
    s = swap(m)
    assert s["on"] and not s["failed"] and s["used"] > 0, s
    wait_for("what was kept is written", lambda: swap(m)["unwritten"] <= 16, 60)  # an open buffer may be left
    m.audit()
    m.cmd("mem-set other 16M")
    grow(m, "mute")
    assert told(m, FAILED) == before
    m.audit()


def test_a_slow_disk(machine):
    """Targets are late by what the disk is late, and nobody else is."""
    m = machine
    m.cmd("pause mute")  # its own reads would be late, too
    writes, since = swap(m)["writes"], now_ms(m)
    m.cmd(f"disk-fault 1 delay 100000 {DELAY_MS}")
    m.cmd(f"mem-set mute {LEAST_KIB}K")
    wait_for("the target", lambda: is_small(m))
    took, writes = now_ms(m) - since, swap(m)["writes"] - writes
    assert writes >= 20, writes
    assert took <= writes * DELAY_MS + PAST_MS, f"{took} ms for {writes} writes that take {DELAY_MS} ms"
    m.cmd("unpause mute")
    reads = disk(m)["reads"]
    before = passes(m, "free"), now_ms(m)
    wait_for("free goes on", lambda: passes(m, "free") >= before[0] + 20, 120)
    wait_for("mute reads from swap", lambda: disk(m)["reads"] > reads + 20, 120)
    with_slow = (passes(m, "free") - before[0]) / (now_ms(m) - before[1])
    assert disk(m)["fault"] == "delay"
    m.cmd("disk-fault 1 off")
    grow(m, "mute")
    before = passes(m, "free"), now_ms(m)
    wait_for("free, with nobody at the disk", lambda: passes(m, "free") >= before[0] + 20, 120)
    alone = (passes(m, "free") - before[0]) / (now_ms(m) - before[1])
    assert with_slow > alone / 5, f"{with_slow * 1000:.1f} passes a second, {alone * 1000:.1f} without"
    m.audit()


@pytest.fixture(autouse=True)
def nobody_is_left_paused(request):
    yield
    m = request.node.funcargs.get("machine")
    if m and m.child and m.child.isalive():
        m.cmd("disk-fault 1 off")
        for name, row in rows(m).items():
            if row["state"] == "paused":
                m.cmd(f"unpause {name}")


def loses_a_page(machine, fault, reason):
    """With both guests' pages on swap all reads go wrong while mute alone runs: it stops, says why, and nothing else
    is lost. It runs again when it is created again."""
    m = machine
    for guest in ("mute", "other"):
        m.cmd(f"pause {guest}")  # what goes out stays there
        m.cmd(f"mem-set {guest} {LEAST_KIB}K")
    for guest in ("mute", "other"):
        wait_for(f"{guest} is small", lambda g=guest: is_small(m, g))
        assert on_swap(m, guest) > 64, why(m, guest)
    m.cmd(f"disk-fault 1 {fault} 100000")
    m.cmd("unpause mute")
    wait_for("mute stops", lambda: "mute" in stopped(m), 120)
    row = rows(m)["mute"]
    assert row["state"] == "crashed" and re.search(LOST + reason, row["reason"]), row
    slot = int(re.search(r"swap slot (\d+)", row["reason"]).group(1))
    assert slot < swap(m)["slots"], row
    assert told(m, row["reason"]) == 1
    m.cmd("disk-fault 1 off")
    m.audit()
    m.cmd("unpause other")
    assert set(stopped(m)) == {"mute"}
    free = passes(m, "free")
    grow(m, "other")
    assert passes(m, "free") > free
    m.cmd("destroy mute", 120)
    wait_for("the dead one's slots are free", lambda: on_swap(m, "other") // 4 == swap(m)["used"], 30)
    m.audit()
    m.cmd("create mute", 120)
    wait_for("mute runs again", lambda: passes(m, "mute") >= 1, 240)
    m.audit()


def test_pages_that_come_back_wrong(machine):
    loses_a_page(machine, "corrupt", "its checksum is wrong")
    assert swap(machine)["checksum_errors"] >= 3 and swap(machine)["read_errors"] == 0


def test_reads_that_fail(machine):
    loses_a_page(machine, "read", "it cannot be read")
    assert swap(machine)["read_errors"] >= 3


def test_one_error_is_tried_again(machine):
    """A single one, of each kind, costs nobody anything."""
    m = machine
    m.cmd(f"mem-set mute {LEAST_KIB}K")
    wait_for("mute is small", lambda: is_small(m))
    for fault in ("corrupt", "read", "write"):
        m.cmd(f"disk-fault 1 {fault} 1")
        wait_for(f"a {fault} error", lambda: disk(m)["fault"] == "off", 120)
        reads_on(m, "mute")
        assert stopped(m) == {}
    assert swap(m)["on"]
    m.audit()
    m.shutdown()
