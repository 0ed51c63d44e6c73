"""The host's disks behind one contract: PIO, bus-master DMA, virtio. Two guests page out and back, each verifying what it
reads; requests at a time read what synchronous ones read; faults on request end as they should."""
import re

import pytest

import machine as harness
from hogs import all_alive, hogs, passes_more, rows, vmstat, wait_for

SEVERAL_CPUS = True
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "32M";
	debug;
	disk { index = <DISK>; };
	guests {
		vm { count = <2>; memory = "24M"; min = "6M"; kernel = "guest.elf"; disk = "48M"; };
	};
};
"""


def disk(machine, index):
    return next(d for d in machine.cmd_json("disks")["disks"] if d["disk"] == index)


def reads_alike(machine, index):
    """Small requests and large ones: what PIO and DMA may do differently. With the guests paused: it is their regions
    that are read."""
    running = [g["name"] for g in machine.cmd_json("list")["guests"] if g["state"] == "running"]
    for guest in running:
        machine.cmd(f"pause {guest}")
    text = machine.cmd(f"debug disk {index}", 120).splitlines()
    for guest in running:
        machine.cmd(f"unpause {guest}")
    for line, head in zip(text, ("64 reads of 8 sectors", "2 reads of 256 sectors"), strict=True):
        assert re.match(head + r": \d+ ticks a page, .*; 0 failed, 0 pages differ$", line), text


def pages_out_and_back(machine, index):
    for guest in ("vm0", "vm1"):
        machine.guest_shell(guest, "run hog 17M")
    for guest in ("vm0", "vm1"):
        wait_for(f"{guest}: a pass of its hog", lambda g=guest: hogs(machine, g)[0][1] >= 1, 240)
    passes_more(machine, "vm0", 240)
    assert sum(vmstat(machine, g, "swap_out_pages") for g in ("vm0", "vm1")) > 0, "nobody paged"
    d = disk(machine, index)
    assert d["write_sectors"] > 0 and d["read_sectors"] > 0 and d["errors"] == 0, d
    all_alive(machine)


def survives_faults(machine, index):
    """A delay costs time, nothing else. A late request is one that failed."""
    machine.cmd(f"disk-fault {index} delay 3 200")
    assert disk(machine, index)["fault"] in ("delay", "off")
    reads_alike(machine, index)
    assert disk(machine, index)["fault"] == "off"
    machine.cmd("pause vm0")
    machine.cmd("pause vm1")
    errors = disk(machine, index)["errors"]
    machine.cmd(f"disk-fault {index} read 5")
    text = machine.cmd(f"debug disk {index}", 120)
    assert "5 failed, 5 pages differ" in text and "0 failed, 0 pages differ" in text, text
    assert disk(machine, index)["errors"] == errors + 5
    reads_alike(machine, index)
    machine.cmd("unpause vm0")
    machine.cmd("unpause vm1")
    passes_more(machine, "vm1", 240)


@pytest.mark.parametrize("bus", ["ide", "virtio"])
def test_disks(own_machine, bus):
    """IDE in Bochs and QEMU; virtio in QEMU alone."""
    m, index = own_machine, 1 if bus == "ide" else 4
    if bus == "virtio" and harness.BACKEND != "svm":
        pytest.skip("Bochs has no virtio disks")
    m.boot(config=CONFIG.replace("DISK", str(index)), extra=["--disk-bus", bus] if bus == "virtio" else [])
    assert disk(m, index)["driver"] == ("dma" if bus == "ide" else "virtio"), m.cmd("dmesg")
    reads_alike(m, index)
    pages_out_and_back(m, index)
    survives_faults(m, index)
    assert "error: disk-fault: no disk" in m.cmd("disk-fault 6 read 1")
    assert "error: disk-fault: unknown" in m.cmd(f"disk-fault {index} melt 1")
    m.audit()
    m.shutdown()


SWAP_CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "32M";
	swap = "64M";
	compressed = "0";
	debug;
	disk { index = <DISK>; };
	guests {
		vm { count = <2>; memory = "24M"; min = "6M"; kernel = "guest.elf"; cmdline = "balloon=absent"; };
	};
};
"""


@pytest.mark.parametrize("bus", ["ide", "virtio"])
def test_swap(own_machine, bus):
    """The hypervisor's own paging, of guests that know nothing of it: each byte comes back, late or not; what does
    not come back ends the guest it belongs to, and no other."""
    m, index = own_machine, 1 if bus == "ide" else 4
    if bus == "virtio" and harness.BACKEND != "svm":
        pytest.skip("Bochs has no virtio disks")
    m.boot(config=SWAP_CONFIG.replace("DISK", str(index)), extra=["--disk-bus", bus] if bus == "virtio" else [])
    for guest in ("vm0", "vm1"):
        m.guest_shell(guest, "run hog 16M")
    for guest in ("vm0", "vm1"):
        wait_for(f"{guest}: a pass of its hog", lambda g=guest: hogs(m, g)[0][1] >= 1, 240)
    d = disk(m, index)
    assert d["reads"] > 50 and d["writes"] > 50 and d["errors"] == 0, d
    m.audit()
    m.cmd(f"disk-fault {index} delay 20 50")
    wait_for("twenty late requests", lambda: disk(m, index)["fault"] == "off", 120)
    # One error is tried again, page by page; a disk that goes on failing is not.
    m.cmd(f"disk-fault {index} read 1")
    wait_for("an error", lambda: disk(m, index)["errors"] == 1, 60)
    passes_more(m, "vm0", 240)
    passes_more(m, "vm1", 240)
    m.cmd("pause vm1")
    m.cmd(f"disk-fault {index} read 1000")
    m.wait_log(r"vm0 crashed: its page at 0x[0-9a-f]+ is lost: swap slot \d+, it cannot be read", 120)
    m.cmd(f"disk-fault {index} off")
    m.cmd("unpause vm1")
    passes_more(m, "vm1", 240)
    assert rows(m)["vm0"]["state"] == "crashed"
    m.audit()
    m.shutdown()
