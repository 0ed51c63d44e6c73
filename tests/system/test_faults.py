"""What goes wrong on request: a frame allocation that fails at the n-th call, a balloon driver that is dead, swap that is
full. Each says so, nobody dies of it, no byte is lost, and what was asked arrives."""
import re
import time

from hogs import all_alive, wait_for

BACKENDS = ("svm",)  # nothing here is the processor's
SEVERAL_CPUS = True
GUEST = 'memory = "16M"; min = "4M"; kernel = "guest.elf"; cmdline = "run=still:6M:4M";'
CONFIG = f"""/dts-v1/;
/ {{
	compatible = "aerostat,config-1";
	pool = "48M";
	swap = "32M";
	debug;
	disk {{ index = <1>; }};
	guests {{
		vm {{ count = <2>; {GUEST} }};
		spare {{ noauto; {GUEST} }};
	}};
}};
"""
# Nothing compresses, as the store is off: what does not fit has 1 MiB to go to.
FULL = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "24M";
	swap = "1M";
	compressed = "0";
	debug;
	disk { index = <1>; };
	guests {
		vm { count = <2>; memory = "16M"; min = "4M"; kernel = "guest.elf"; cmdline = "balloon=absent run=still:6M:4M"; };
	};
};
"""
DEADLINE_MS = 2000
PAST_MS = 2000


def why(machine, guest):
    return machine.cmd_json(f"mem-why {guest}")


def still(machine, guest):
    """(passes, errors) of its workload, which is alive."""
    for line in machine.guest_shell(guest, "ps", 120).splitlines():
        row = line.split()
        if "still" in row:
            assert row[1] in ("run", "sleep", "new"), line
            return int(row[6]), int(row[7])
    raise AssertionError(f"{guest} has no workload any more")


def reads_all(machine, *guests):
    before = {g: still(machine, g)[0] for g in guests}
    for guest in guests:
        wait_for(f"{guest} reads all its memory", lambda g=guest: still(machine, g)[0] > before[g] + 1, 300)
        assert still(machine, guest)[1] == 0, f"{guest} read a wrong byte"


def now_ms(machine):
    return machine.cmd_json("uptime")["uptime_ms"]


def arrives(machine, guest, kib, since):
    while True:
        w = why(machine, guest)
        if w["resident_kib"] <= kib:
            return now_ms(machine) - since
        assert now_ms(machine) - since < DEADLINE_MS + 20000, w
        time.sleep(0.05)


def test_swap_full(own_machine):  # first: while the others' machine is there, its slot is taken
    """Guests without drivers want more than there is, and there is no room for it: they wait."""
    m = own_machine
    m.boot(config=FULL)
    wait_for("both began", lambda: all(still(m, g)[0] for g in ("vm0", "vm1")), 240)
    m.cmd("mem-set vm0 6M")
    m.attach("vm0")
    m.child.send("run still 5M 4M\r")
    m.wait("they find no room", 240, exact=True)
    m.detach()
    swap = m.cmd_json("mem-state")["swap"]
    assert swap["slots"] == 256 and swap["used"] >= 256 * 3 // 4 - 16, swap  # the last quarter is others'
    full = re.compile(r"nothing is compressed, and (swap is full|it has its part of swap)")
    wait_for("mem-why says so", lambda: full.search(why(m, "vm0")["limit"]), 60)
    all_alive(m)
    m.audit()
    assert "off" in m.cmd("swap off")
    wait_for("mem-why says that it is off", lambda: "swap is off" in why(m, "vm0")["limit"], 60)
    m.cmd("swap on")
    m.audit()
    m.cmd("mem-set vm0 16M")  # now it may have its frames again
    reads_all(m, "vm0", "vm1")
    all_alive(m)
    m.audit()
    m.shutdown()


def test_driver_dead(machine):
    wait_for("both run", lambda: all(still(machine, g)[0] for g in ("vm0", "vm1")), 240)
    assert "error: driver-fault: unknown" in machine.cmd("driver-fault vm0 ill")
    assert "hears nothing" in machine.cmd("driver-fault vm0 dead")
    since = now_ms(machine)
    machine.cmd("mem-set vm0 6M")
    machine.wait_log("guest vm0: its balloon driver does not answer", 120)
    took = arrives(machine, "vm0", 6 << 10, since)
    assert took <= DEADLINE_MS + PAST_MS, f"{took} ms"
    w = why(machine, "vm0")
    assert "its balloon driver is dead" in w["limit"] and w["actual_kib"] == 16 << 10, w
    assert "guest vm1: its balloon" not in machine.cmd("dmesg")
    machine.audit()
    assert "hears again" in machine.cmd("driver-fault vm0 off")
    wait_for("its balloon follows", lambda: why(machine, "vm0")["actual_kib"] <= 8 << 10, 60)  # it has no swap of its own
    machine.audit()


def test_creation(machine):
    """Some of all; tests/unit/test_faults.py does each."""
    refused = 0
    for n in (1, 2, 3, 5, 8, 14, 20, 27, 33, 80):
        machine.cmd(f"alloc-fault {n}")
        text = machine.cmd("create spare", 120)
        machine.cmd("alloc-fault off")
        if "error:" in text:
            refused += 1
            assert re.search(r"error: .*guest spare: \w+ \w+", text), text
            assert "spare" not in machine.cmd("list")
        else:
            machine.cmd("destroy spare", 120)
        machine.audit()
    assert 5 <= refused <= 9, "none failed"
    all_alive(machine)


def test_allocations_fail_while_guests_run(machine):
    """With memory coming and going; whoever meets one waits and goes on."""
    def failed():
        return int(re.search(r"(\d+) (frame allocations )?failed so far", machine.cmd("alloc-fault")).group(1))
    before, dice = failed(), (1, 3, 20, 2, 90, 7)
    for i, n in enumerate(dice):
        machine.cmd(f"alloc-fault {n} {40 if i % 2 else 3}")
        machine.cmd(f"mem-set vm{i % 2} {5 if i % 3 else 16}M")
        time.sleep(1)
        machine.audit()
    machine.cmd("mem-set all 16M")
    wait_for("they failed", lambda: "off;" in machine.cmd("alloc-fault"), 60)
    assert failed() >= before + 60
    reads_all(machine, "vm0", "vm1")
    all_alive(machine)
    machine.audit()
