"""Equal pages of guests lie in one frame: found by the scan, broken by writes, never between guests that name no common
group; every byte verified throughout."""
from hogs import all_alive, rows, wait_for

SEVERAL_CPUS = True
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "44M";
	swap = "8M";
	disk { index = <1>; };
	guests {
		farm {
			count = <2>; memory = "10M"; min = "2M"; kernel = "guest.elf"; share = "farm";
			cmdline = "run=still:4M";
		};
		own { count = <2>; memory = "10M"; min = "2M"; kernel = "guest.elf"; cmdline = "run=still:4M"; };
		none {
			memory = "10M"; min = "2M"; kernel = "guest.elf"; share = "none"; cmdline = "run=still:4M";
		};
	};
};
"""
GUESTS = ["farm0", "farm1", "own0", "own1", "none"]
PAGES = 4 << 8        # of each process
EQUAL = PAGES // 12   # about so many of these are one of eight texts that all have


def sharing(machine):
    return machine.cmd_json("stats")["sharing"]


def stats(machine, guest):
    return machine.cmd_json(f"stats {guest}")


def verified(machine, guest):
    """Passes of its process, which must have found no error."""
    found = [line.split() for line in machine.guest_shell(guest, "ps").splitlines()]
    still = [row for row in found if "still" in row]
    assert still, found
    assert all(row[7] == "0" for row in still), still
    return sum(int(row[6]) for row in still)


def test_equal_pages_are_found(machine):
    for guest in GUESTS:
        wait_for(f"{guest}: a first pass", lambda g=guest: verified(machine, g) > 0, 240)
    wait_for("most equal pages are shared", lambda: sharing(machine)["pages"] > 3 * EQUAL, 240)
    machine.audit()
    found = sharing(machine)
    assert found["saved"] > 2 * EQUAL, found
    assert found["zero"] > 0


def test_only_those_of_one_group_share_between_them(machine):
    """That each frame is mapped in one domain only is what mem-audit proves, entry by entry."""
    for guest in GUESTS[:4]:
        wait_for(f"{guest} shares", lambda g=guest: stats(machine, g)["faults"]["shared"] > 0, 240)
    assert stats(machine, "none")["pages"]["shared"] == 0
    assert stats(machine, "none")["faults"]["shared"] == 0
    # Eight frames for the two of the group, and eight for each of the others.
    machine.audit()


def test_writes_break_it(machine):
    """Each pass writes one of sixteen pages anew."""
    def broken():
        return sum(stats(machine, g)["faults"]["cow_copied"] for g in GUESTS)
    before, passes = broken(), {g: verified(machine, g) for g in GUESTS}
    for guest in GUESTS:
        wait_for(f"{guest}: another two passes", lambda g=guest: verified(machine, g) >= passes[g] + 2, 240)
    assert broken() > before
    machine.audit()
    all_alive(machine)


def test_the_scan_keeps_to_its_bound(machine):
    """1% of a CPU's time, and what may have been saved up (64 pages' worth) and overdrawn by a step: which may be much
    where the emulator is itself kept waiting, and is made up for afterwards."""
    def now():
        return sharing(machine)["scan_us"], machine.cmd_json("uptime")["uptime_ms"]
    machine.audit()
    spent, up = now()
    wait_for("eight seconds", lambda: machine.cmd_json("uptime")["uptime_ms"] > up + 8000, 240)

    def bounded():
        spent2, up2 = now()
        return (spent2 - spent) / 1000 <= 0.01 * (up2 - up) + 5
    wait_for("at most 1% of the time went into the scan", bounded, 60)


def test_targets_are_reached_all_the_same(machine):
    """What is shared counts half, and goes like other pages when nothing else is left."""
    for guest in ("farm0", "own0"):
        machine.cmd(f"mem-set {guest} 3M")
        wait_for(f"{guest} is at its target", lambda g=guest: rows(machine)[g]["used_pages"] <= 3 << 8, 120)
        machine.audit()
        assert verified(machine, guest) >= 0
        machine.cmd(f"mem-set {guest} 10M")
    all_alive(machine)


def test_those_who_go_leave_the_others_their_pages(machine):
    machine.cmd("destroy farm1")
    machine.audit()
    machine.cmd("create farm1")
    before = verified(machine, "farm0")
    wait_for("farm0: another pass", lambda: verified(machine, "farm0") > before, 240)
    for guest in GUESTS:
        machine.cmd(f"destroy {guest}")
    found = sharing(machine)
    assert found["pages"] == found["frames"] == found["hints"] == 0, found
    machine.audit()
