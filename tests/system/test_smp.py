"""Several processors: guests use all of them, by their shares and within their affinity, and verify every byte
while balloons move, guests are paused, moved, destroyed and made again at random. tests/run.py also runs this file
over an image with the lock checks (make DEBUG=1)."""
import random
import re
import time

from hogs import all_alive, hogs, passes_more, vmstat, wait_for
from machine import BACKEND, CPUS as ASKED

CPUS = ASKED if ASKED > 1 else {"vmx": 2, "svm": 4}[BACKEND]
GUESTS = [f"vm{i}" for i in range(5)]
OPERATIONS = {"vmx": 24, "svm": 60}[BACKEND]
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "48M";
	disk { index = <1>; };
	guests {
		vm {
			count = <5>; memory = "12M"; min = "4M"; kernel = "guest.elf"; disk = "24M"; vcpus = <2>;
			cmdline = "run=hog:3M run=hog:3M";
		};
		few {
			noauto; memory = "8M"; min = "2M"; kernel = "guest.elf"; cmdline = "run=hog:1M";
			cpus = "1"; cpu-shares = <1000>;
		};
		many {
			noauto; memory = "8M"; min = "2M"; kernel = "guest.elf"; cmdline = "run=hog:1M";
			cpus = "1"; cpu-shares = <3000>;
		};
		three {
			noauto; memory = "8M"; min = "2M"; kernel = "guest.elf"; vcpus = <3>; cmdline = "tests up";
		};
		crowd {
			noauto; memory = "8M"; min = "5M"; kernel = "guest.elf"; vcpus = <3>; disk = "16M"; cpus = "1";
			cmdline = "run=hog:2M run=hog:2M run=hog:2M";
		};
		nowhere {
			noauto; memory = "8M"; min = "2M"; kernel = "guest.elf"; cpus = "40-63";
		};
	};
};
"""


def vcpus(machine, guest=""):
    return machine.cmd_json(f"vcpu-list {guest}")["vcpus"]


def test_every_cpu_is_started(machine):
    assert f"{CPUS} CPUs run" in machine.cmd("dmesg")
    cpus = machine.cmd_json("cpus")["cpus"]
    assert [c["cpu"] for c in cpus] == list(range(CPUS))
    assert len({c["apic_id"] for c in cpus}) == CPUS
    lines = machine.cmd("cpus").splitlines()
    assert len(lines) == 1 + CPUS and lines[0].split()[:2] == ["CPU", "APIC-ID"]


def test_guests_use_all_of_them(machine):
    wait_for("each CPU runs guests",
             lambda: all(c["guest_ms"] > 20 and c["switches"] > 5 for c in machine.cmd_json("cpus")["cpus"]))
    wait_for("vCPUs are on several CPUs", lambda: len({v["cpu"] for v in vcpus(machine)} - {-1}) > 1)


def test_vcpu_list_in_xls_columns(machine):
    lines = machine.cmd("vcpu-list").splitlines()
    assert lines[0].split() == "Name ID VCPU CPU State Time(s) Affinity".split()
    assert [line.split()[0] for line in lines[1:]] == [g for g in GUESTS for _ in range(2)]
    assert all(re.fullmatch(r"[r-][bwd-][p-]", line.split()[4]) and line.split()[6] == "all" for line in lines[1:])
    assert len(machine.cmd("vcpu-list vm1").splitlines()) == 3


def test_pinned_it_stays(machine):
    for cpu in (CPUS - 1, 0):
        machine.cmd(f"vcpu-pin vm0 all {cpu}")
        assert all(v["affinity"] == str(cpu) for v in vcpus(machine, "vm0"))
        for _ in range(10):
            assert all(v["cpu"] in (cpu, -1) for v in vcpus(machine, "vm0"))
        passes_more(machine, "vm0")
    machine.cmd("vcpu-pin vm0 all all")
    assert all(v["affinity"] == "all" for v in vcpus(machine, "vm0"))


def test_mistakes_say_what_would_do(machine):
    for line, said in (("vcpu-pin vm0 3 0", 'vm0 has no vCPU "3"; it has 0 to 1, or all'),
                       ("vcpu-pin vm0 0 x", '"x" is no list of CPUs'),
                       ("vcpu-pin vm0 0 60", f"none of 60 runs; there are 0 to {CPUS - 1}"),
                       ("sched vm0 0", 'cpu-shares "0"; 1 to 100000'),
                       ("sched nobody", 'no guest "nobody"'),
                       ("create nowhere", f"none of its cpus runs here: there are 0 to {CPUS - 1}")):
        text = machine.cmd(line)
        assert text.startswith("error: ") and said in text and "\n" not in text, text


def test_shares_of_one_cpu(machine):
    """Two guests on CPU 1, which the others leave to them: three parts to one."""
    for g in GUESTS:
        machine.cmd(f"vcpu-pin {g} all 0")
    machine.cmd("create few")
    machine.cmd("create many")
    passes_more(machine, "few")
    passes_more(machine, "many")

    def times():
        guests = {g["name"]: g["cpu_ms"] for g in machine.cmd_json("sched")["guests"]}
        return guests["few"], guests["many"]
    few, many = times()
    wait_for("two seconds of CPU 1", lambda: sum(times()) > few + many + 2000, 240)
    parts = [b - a for a, b in zip((few, many), times())]
    assert 2.6 < parts[1] / parts[0] < 3.4, parts
    machine.cmd("sched few 3000")
    few, many = times()
    wait_for("two more", lambda: sum(times()) > few + many + 2000, 240)
    parts = [b - a for a, b in zip((few, many), times())]
    assert 0.8 < parts[1] / parts[0] < 1.25, parts
    for g in ("few", "many"):
        machine.cmd(f"destroy {g}")
    for g in GUESTS:
        machine.cmd(f"vcpu-pin {g} all all")
    machine.audit()


def test_processes_run_on_all_vcpus_of_a_guest(machine):
    """While its balloon makes it page out what they use, and with what was free for one in the end."""
    wait_for("both vCPUs of each guest run", lambda: all(v["cpu_ms"] > 100 for v in vcpus(machine)), 240)
    machine.cmd("mem-set vm1 5M")
    wait_for("vm1 pages out", lambda: vmstat(machine, "vm1", "swap_out_pages") > 200)
    for _ in range(2):
        passes_more(machine, "vm1", 240)
    machine.cmd("mem-set vm1 12M")
    machine.guest_shell("vm1", f"kill {hogs(machine, 'vm1')[0][0]}")
    wait_for("one hog is left", lambda: len(hogs(machine, "vm1")) == 1)
    machine.guest_shell("vm1", "run hog 3M")
    passes_more(machine, "vm1")
    machine.audit()


def test_who_spins_gives_way(machine):
    """Three vCPUs on one CPU, in one kernel that pages out: who waits for its lock lets the holder run."""
    machine.cmd("create crowd")
    machine.cmd("mem-set crowd 5M")
    wait_for("it pages", lambda: vmstat(machine, "crowd", "swap_out_pages") > 100)
    wait_for("turns were given to others", lambda: machine.cmd_json("stats crowd")["waits"]["gave_way"] > 20, 240)
    for _ in range(2):
        passes_more(machine, "crowd", 240)
    machine.cmd("destroy crowd")
    machine.audit()


def test_a_guest_starts_its_other_vcpus(machine):
    """INIT and start-up from real mode, interrupts that wake them wherever they are, and INIT again."""
    machine.cmd("create three")
    assert len(machine.cmd("vcpu-list three").splitlines()) == 4
    for _ in range(3):
        assert "smp-start: 2 of 2 others ok" in machine.guest_shell("three", "smp-start", 120)
    machine.cmd("pause three")
    assert all(v["state"] == "stopped" for v in machine.cmd_json("vcpu-list three")["vcpus"])
    machine.cmd("unpause three")
    assert "smp-start: 2 of 2 others ok" in machine.guest_shell("three", "smp-start", 120)
    machine.cmd("destroy three")
    machine.audit()


def move_balloon(machine, dice):
    guest, mib = dice.choice([*GUESTS, "all"]), dice.randint(4, 12)
    assert f"{mib}M" in machine.cmd(f"mem-set {guest} {mib}M")


def stop_for_a_while(machine, dice):
    guest = dice.choice(GUESTS)
    machine.cmd(f"pause {guest}")
    assert all(v["state"] == "stopped" for v in vcpus(machine, guest))
    time.sleep(dice.random() / 2)
    machine.cmd(f"unpause {guest}")


def move_vcpu(machine, dice):
    machine.cmd(f"vcpu-pin {dice.choice(GUESTS)} {dice.choice([0, 1, 'all'])} {dice.choice([*range(CPUS), 'all'])}")


def replace(machine, dice):
    guest = dice.choice(GUESTS)
    machine.cmd(f"destroy {guest}")
    machine.cmd(f"create {guest}")


def check(machine):
    all_alive(machine)
    for guest in GUESTS:
        wait_for(f"{guest}: its hogs run", lambda g=guest: len(hogs(machine, g)) == 2)
        assert all(errors == 0 for _, _, errors in hogs(machine, guest)), guest
    machine.audit()


def test_everything_moves_at_random(machine):
    dice = random.Random(4)
    for n in range(OPERATIONS):
        what = dice.choices((move_balloon, stop_for_a_while, move_vcpu, replace), (8, 2, 3, 1))[0]
        what(machine, dice)
        if n % 12 == 11:
            check(machine)
    machine.cmd("mem-set all 12M")
    for guest in GUESTS:
        machine.cmd(f"vcpu-pin {guest} all all")
    check(machine)
    for guest in GUESTS:
        passes_more(machine, guest, 240)  # nobody sleeps through what should have woken it
    check(machine)


def test_ends_well(machine):
    assert "exit 0" in machine.shutdown()
