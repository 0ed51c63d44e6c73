"""Ten guests of 16 MiB on 120 MiB: one spikes while the others idle and gets it; all spike, and every one
verifies and none dies; guests come and go meanwhile. Each test begins where the one before ended."""
import subprocess

from machine import OUT, TOP

from hogs import all_alive, hogs, kill_hogs, passes_more, rows, vmstat, wait_for

SEVERAL_CPUS = ("vmx",)  # one CPU of this kind overcommits in test_guests_models.py
CONFIG = "demo"
GUESTS = [f"vm{i}" for i in range(10)]


def test_idle_guests_give_way_to_one_that_spikes(machine):
    """The nine have used 11 MiB each and are idle now: their frames are free memory of theirs."""
    for guest in GUESTS[1:]:
        machine.guest_shell(guest, "run hog 11M")
    for guest in GUESTS[1:]:
        wait_for(f"{guest}: a first pass", lambda g=guest: hogs(machine, g)[0][1] > 0)
    for guest in GUESTS[1:]:
        kill_hogs(machine, guest)
    machine.guest_shell("vm0", "run hog 15M")
    wait_for("vm0 holds 15 MiB", lambda: rows(machine)["vm0"]["used_pages"] >= 15 << 8)
    passes_more(machine, "vm0")
    assert vmstat(machine, "vm0", "swap_out_pages") == 0, "it paged out while others had free memory"
    machine.audit()


def test_all_spike_and_all_verify(machine):
    kill_hogs(machine, "vm0")
    for guest in GUESTS:
        machine.guest_shell(guest, "run hog 13M")
    for guest in GUESTS:
        wait_for(f"{guest}: two passes of its hog", lambda g=guest: hogs(machine, g)[0][1] >= 2, 240)
        assert hogs(machine, guest)[0][2] == 0
    all_alive(machine)
    for guest in GUESTS:
        assert vmstat(machine, guest, "oom_kills") == 0, f"{guest} killed something for memory"
    machine.audit()


def test_equal_guests_get_equal_parts(machine):
    """Same shares, same need: nobody is left with much less than another."""
    def spread():
        used = [r["used_pages"] for r in rows(machine).values()]
        return max(used) - min(used)
    wait_for("used memory within 3 MiB of each other", lambda: spread() <= 3 << 8, 120)


def test_guests_come_and_go_under_pressure(machine):
    for _ in range(3):
        machine.cmd("destroy vm9")
        assert "vm9" not in rows(machine)
        machine.cmd("create vm9")
        assert rows(machine)["vm9"]["state"] == "running"
        machine.audit()
    # The new one has a right to its min at once, while the nine hold all the rest.
    machine.guest_shell("vm9", "run hog 3M")
    passes_more(machine, "vm9")
    assert vmstat(machine, "vm9", "swap_out_pages") == 0


def test_paused_guests_hold_nobody_up(machine):
    machine.cmd("pause vm1")
    machine.cmd("pause vm2")
    passes_more(machine, "vm3", 240)
    machine.cmd("unpause vm1")
    machine.cmd("unpause vm2")
    passes_more(machine, "vm1", 240)
    all_alive(machine)
    machine.audit()


def test_steps_can_be_made_again(machine):
    """What the policy was given, printed on the serial log: the host makes the same plans of it."""
    machine.cmd("policy-trace 40")
    machine.wait_log("end of the policy's trace")
    machine.log.flush()
    log = OUT / f"{machine.name}.log"
    done = subprocess.run([TOP / "build/host/simulate", "--out", OUT / "replay", "replay", log], capture_output=True,
                          text=True, cwd=TOP)
    assert " 40 steps, 40 plans the same, 0 steps incomplete, 0 bad lines" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_ends_in_order(machine):
    for guest in GUESTS[:9]:
        kill_hogs(machine, guest)
    for guest in GUESTS:
        machine.cmd(f"destroy {guest}")
    assert rows(machine) == {}
    machine.audit()
    machine.shutdown()
