"""Pages that lie on their guest's own disk are dropped by the ladder, not swapped (docs/adr/0010). One machine, in order."""
import re

from hogs import rows, wait_for

CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "48M";
	swap = "48M";
	debug;
	disk { index = <1>; };
	guests {
		cacher { memory = "16M"; min = "4M"; kernel = "guest.elf"; disk = "32M"; cmdline = "balloon=absent"; };
		other { memory = "16M"; min = "4M"; kernel = "guest.elf"; disk = "32M"; cmdline = "run=cache:6M balloon=absent"; };
	};
};
"""
FILE_MIB = 9
SMALL_KIB = 6144
LOST = r"its page at 0x[0-9a-f]+ is lost: sector (\d+) of its disk \((\d+) of disk 1\) "


def state(machine):
    return machine.cmd_json("mem-state")


def why(machine, guest):
    return machine.cmd_json(f"mem-why {guest}")


def audit(machine):
    report = machine.cmd_json("mem-audit", 120)
    assert report["problems"] == 0, report["messages"]


begun = {}  # pid -> what was said then: the process's last word, if it was as quick as that


def start(machine, passes):
    """Reads its file so many times."""
    said = machine.guest_shell("cacher", f"run cache {FILE_MIB}M {passes}")
    pid = re.search(r"\[(\d+)\]", said).group(1)
    begun[pid] = said
    return pid


def end(machine, pid, passes):
    said = begun.pop(pid) + machine.guest_shell("cacher", f"wait {pid}", 300)
    assert f"exit 0, {passes} passes, 0 errors" in said, said


def read_file(machine, passes):
    end(machine, start(machine, passes), passes)


def make_small(machine, guest="cacher"):
    machine.cmd(f"mem-set {guest} {SMALL_KIB}K")
    wait_for(f"{guest} is small", lambda: why(machine, guest)["resident_kib"] <= SMALL_KIB)


def rung(machine, name):
    return next(r["pages"] for r in state(machine)["rungs"] if r["name"] == name)


def test_the_page_cache_is_dropped(machine):
    m = machine
    read_file(m, 2)  # written, and all of it cached: before anything is owed
    swapped = rung(m, "swap")
    make_small(m)
    read_file(m, 3)
    assert rung(m, "drop") > 1000
    assert rung(m, "swap") - swapped < rung(m, "drop")
    own = why(m, "cacher")
    assert own["dropped_kib"] > 0, own
    assert state(m)["own_disks"]["checksum_errors"] == 0
    audit(m)


def test_paused_grown_and_made_anew(machine):
    m = machine
    m.cmd("pause cacher")
    audit(m)
    m.cmd("unpause cacher")
    m.cmd("mem-set cacher 16M")
    read_file(m, 2)
    make_small(m)
    m.cmd("destroy cacher", 120)
    audit(m)
    m.cmd("create cacher", 120)
    assert why(m, "cacher")["dropped_kib"] == 0
    read_file(m, 2)  # from its disk: what it wrote before is there
    make_small(m)
    read_file(m, 2)
    audit(m)


def test_written_while_dropped(machine):
    """A guest that pages by itself, to and from the disk that its dropped pages lie on; every byte is verified."""
    m = machine
    m.cmd("mem-set cacher 6M")
    said = m.guest_shell("cacher", "run hog 18M 2")
    pid = re.search(r"\[(\d+)\]", said).group(1)
    said += m.guest_shell("cacher", f"wait {pid}", 400)
    assert "exit 0, 2 passes, 0 errors" in said, said
    assert state(m)["own_disks"]["broken"] > 0
    read_file(m, 1)
    audit(m)


def fault(machine):
    return next(d["fault"] for d in machine.cmd_json("disks")["disks"] if d["disk"] == 1)


def test_one_error_is_tried_again(machine):
    """The read that fails may be the guest's own: then its process ends. The guest never does."""
    m = machine
    for _ in range(3):
        m.cmd("disk-fault 1 read 1")
        for _ in range(20):
            m.guest_shell("cacher", f"wait {start(m, 1)}", 300)
            if fault(m) == "off":
                break
        assert fault(m) == "off"
        assert rows(m)["cacher"]["state"] == "running", rows(m)["cacher"]
    read_file(m, 2)
    audit(m)


def test_what_cannot_be_read_stops_its_owner(machine):
    m = machine
    read_file(m, 2)  # all of the file is cached again, and much of it dropped
    assert why(m, "cacher")["dropped_kib"] > 0
    m.cmd("pause other")
    start(m, 100)
    m.cmd("disk-fault 1 read 100000")
    wait_for("cacher stops", lambda: rows(m)["cacher"]["state"] != "running", 120)
    row = rows(m)["cacher"]
    found = re.search(LOST + "cannot be read", row["reason"])
    slot = re.search("swap slot", row["reason"])  # a few of its pages are there
    assert row["state"] == "crashed" and (found or slot), row
    m.cmd("disk-fault 1 off")
    if found:
        assert int(found.group(1)) < 32 * 2048 and int(found.group(2)) > int(found.group(1)), row
    audit(m)
    m.cmd("unpause other")
    m.cmd("destroy cacher", 120)
    assert rows(m)["other"]["state"] == "running"
    audit(m)
    m.shutdown()
