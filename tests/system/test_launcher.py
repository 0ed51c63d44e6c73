"""boot/run itself: its three consoles, its one way out, and that nothing is left behind. The machine
of these tests has no hypervisor on its boot volume: it prints one error and ends, in QEMU."""
import os
import re
import select
import signal
import socket
import subprocess
import termios
import time
from pathlib import Path

import pexpect
import pytest
from machine import RUN, Slot

BACKENDS = ("svm",)  # they never get as far as needing one
ONE_MACHINE = True  # it chooses its processors itself, or never gets as far as using several
ARGS = [str(RUN), "--emulator", "qemu", "--omit", "aerostat.elf", "--timeout", "60"]
SAYS = b"aerostat.elf is missing"


@pytest.fixture(autouse=True)
def slot():
    s = Slot()
    s.take()
    yield
    s.give()


def leftovers(pid):
    """Temporary folders of launcher `pid`, and emulators working in them."""
    folders = list(Path("/tmp").glob(f"aerostat-run.{pid}.*"))
    emulators = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"aerostat-run.{pid}.".encode() in cmdline.read_bytes():
                emulators.append(cmdline.parent.name)
        except OSError:
            continue
    return folders + emulators


def wait_emulator(pid):
    for _ in range(150):
        if len(leftovers(pid)) >= 2:
            return
        time.sleep(0.2)
    raise AssertionError("no emulator came up")


def read_until(read, ready, seconds=40):
    """Reads until SAYS came; what came."""
    got, deadline = b"", time.monotonic() + seconds
    while SAYS not in got and time.monotonic() < deadline:
        if select.select([ready], [], [], 1)[0]:
            got += read()
    return got


def start(*console):
    return subprocess.Popen([*ARGS, *console], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE)


def greeting(child, pattern):
    for _ in range(5):
        found = re.search(pattern, child.stderr.readline().decode())
        if found:
            return found.group(1)
    raise AssertionError("no greeting")


def test_pty_console():
    child = start("--console", "pty")
    name = greeting(child, r"console on (/dev/pts/\d+)")
    fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
    assert SAYS in read_until(lambda: os.read(fd, 4096), fd)
    os.close(fd)
    assert child.wait(30) == 1


def test_unix_console_shows_a_late_client_what_it_missed(tmp_path):
    path = tmp_path / "con"
    child = start("--console", f"unix:{path}")
    greeting(child, r"(unix socket)")
    time.sleep(2.5)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        assert SAYS in read_until(lambda: s.recv(4096), s)
    assert child.wait(30) == 1
    assert not path.exists()


def test_unix_console_refuses_to_replace_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    child = start("--console", f"unix:{path}")
    assert child.wait(30) == 1
    assert b"not a socket" in child.stderr.read()
    assert path.read_text() == "mine"


def test_ctrl_a_x_ends_it_and_restores_the_terminal():
    child = pexpect.spawn(ARGS[0], ARGS[1:], timeout=30)
    before = termios.tcgetattr(child.child_fd)
    child.expect("Ctrl-A x ends")
    wait_emulator(child.pid)
    assert termios.tcgetattr(child.child_fd) != before
    child.send("\x01x")
    child.expect("ended by Ctrl-A x")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert leftovers(child.pid) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_leave_nothing_behind(number):
    child = start()
    wait_emulator(child.pid)
    child.send_signal(number)
    assert child.wait(30) == 128 + number
    assert leftovers(child.pid) == []


def test_a_killed_launcher_takes_the_emulator_along():
    child = start()
    wait_emulator(child.pid)
    child.kill()
    child.wait(30)
    for _ in range(100):
        if all(isinstance(x, Path) for x in leftovers(child.pid)):
            break
        time.sleep(0.2)
    assert all(isinstance(x, Path) for x in leftovers(child.pid)), "the emulator lives on"
    subprocess.run([RUN, "--config", "/nonexistent.dts"], capture_output=True, check=False)
    assert leftovers(child.pid) == [], "the next launcher removes the folder"


def test_a_data_disk_is_made_once_kept_and_locked(tmp_path):
    disk = tmp_path / "data.img"
    child = subprocess.run([*ARGS, "--disk", disk], capture_output=True, stdin=subprocess.DEVNULL,
                           timeout=60, check=False)
    assert child.returncode == 1
    head = disk.read_bytes()[:512]
    assert head == b"AEROSTATDISK\0\0\0\0\1\0\0\0" + bytes(492)
    with open(disk, "r+b") as f:
        f.seek(4096)
        f.write(b"a guest's data")
    first = start("--disk", str(disk))
    wait_emulator(first.pid)
    second = subprocess.run([*ARGS, "--disk", disk], capture_output=True, stdin=subprocess.DEVNULL,
                            timeout=30, check=False)
    first.terminate()
    first.wait(30)
    assert second.returncode == 1 and b"in use by another" in second.stderr
    assert disk.read_bytes()[4096:4110] == b"a guest's data"


def test_the_data_disk_has_room_for_all_guests_and_swap(tmp_path):
    disk, config = tmp_path / "data.img", tmp_path / "large.dts"
    config.write_text("""/dts-v1/; / { compatible = "aerostat,config-1"; swap = "256M"; disk { index = <1>; };
        guests { vm { count = <20>; memory = "16M"; kernel = "guest.elf"; disk = "32M"; };
                 one { memory = "16M"; kernel = "guest.elf"; disk = <0x2000000>; }; }; };""")

    def size_after(*args):
        subprocess.run([*ARGS, "--disk", disk, *args], capture_output=True, stdin=subprocess.DEVNULL, timeout=60,
                       check=False)
        return disk.stat().st_size >> 20
    small = size_after()
    assert 512 <= small < 514
    assert size_after("--config", config) >= 20 * 32 + 32 + 256, "it has not grown"
    assert size_after() >= 20 * 32 + 32 + 256, "it has shrunk"
