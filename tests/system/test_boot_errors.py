"""What is wrong with the boot volume is one line that names it, and the machine ends at once.
In QEMU: most of these boots never get as far as guests."""
import subprocess

import pytest
from machine import RUN, TOP, launch

BACKENDS = ("svm",)
ONE_MACHINE = True  # it chooses its processors itself, or never gets as far as using several
BUILD = TOP / "build"


def failing_boot(*args):
    """Boots in QEMU; must end by itself with status 1. Returns the one line that says why."""
    code, text = launch(["--emulator", "qemu", "--timeout", 60, *args])
    assert code == 1, f"status {code}:\n{text[-2000:]}"
    errors = [line for line in text.splitlines() if "aerostat: error:" in line]
    assert len(errors) == 1, f"exactly one error line:\n{text[-2000:]}"
    return errors[0]


@pytest.mark.parametrize("name, needed", [
    ("aerostat.elf", "build"), ("aerostat.dtb", "dtc"), ("guest.elf", "guests/vm"),
])
def test_missing_file(name, needed):
    line = failing_boot("--omit", name)
    assert f"\\aerostat\\{name} is missing" in line
    assert needed in line


@pytest.mark.parametrize("damage, says", [
    (lambda elf: b"#!/bin/sh\n" + elf, "not an ELF file"),
    (lambda elf: elf[:5000], "outside the file"),
    (lambda elf: elf[:18] + b"\x28\0" + elf[20:], "not for x86-64"),
    (lambda elf: b"", "is empty"),
])
def test_bad_hypervisor(tmp_path, damage, says):
    bad = tmp_path / "bad.elf"
    bad.write_bytes(damage((BUILD / "aerostat.elf").read_bytes()))
    line = failing_boot("--esp-file", f"aerostat.elf={bad}")
    assert "\\aerostat\\aerostat.elf" in line
    assert says in line


def test_config_that_is_no_device_tree(tmp_path):
    bad = tmp_path / "bad.dtb"
    bad.write_text("/dts-v1/; / { };")
    line = failing_boot("--esp-file", f"aerostat.dtb={bad}")
    assert "\\aerostat\\aerostat.dtb" in line and "dtc" in line


def test_config_with_a_kernel_that_is_no_file_name(tmp_path):
    config = tmp_path / "bad.dts"
    config.write_text('/dts-v1/; / { compatible = "aerostat,config-1"; guests { '
                      'first { kernel = "guest.elf"; }; second { kernel = "../guest.elf"; }; }; };')
    line = failing_boot("--config", config)
    assert "node second" in line and "kernel" in line


def test_too_little_memory(tmp_path):
    big = tmp_path / "big.elf"
    with open(big, "wb") as f:
        f.truncate(100 << 20)
    line = failing_boot("--memory", "64M", "--esp-file", f"guest.elf={big}")
    assert "too little memory: guest.elf needs 102400 KiB" in line and "--memory" in line


def test_config_that_the_hypervisor_refuses(tmp_path):
    config = tmp_path / "bad.dts"
    config.write_text('/dts-v1/; / { compatible = "aerostat,config-1"; pool = "120M"; guests { '
                      'small { memory = "wide"; kernel = "guest.elf"; }; }; };')
    code, text = launch(["--emulator", "qemu", "--timeout", 60, "--config", config])
    assert code == 1, f"status {code}:\n{text[-2000:]}"
    assert "small" in text and "memory" in text


@pytest.mark.parametrize("model, says", [
    ("qemu64,-svm", "neither VMX (Intel VT-x) nor SVM (AMD-V)"),
    ("EPYC,+svm,-npt,check=off", "no nested paging (NPT)"),
])
def test_processor_that_cannot(model, says):
    code, text = launch(["--emulator", "qemu", "--cpu-model", model, "--timeout", 60])
    assert code == 1, f"status {code}:\n{text[-2000:]}"
    errors = [line for line in text.splitlines() if "error:" in line]
    assert len(errors) == 1 and says in errors[0], errors
    assert "aerostat: exit 1" in text


def no_boot(*args):
    done = subprocess.run([RUN, *map(str, args)], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode in (1, 2), done.stderr
    return done.stderr


def test_launcher_refuses_what_makes_no_sense(tmp_path):
    assert "no such config" in no_boot("--config", tmp_path / "none.dts")
    assert "256M" in no_boot("--memory", "lots")
    assert "NAME=PATH" in no_boot("--esp-file", "guest.elf")
    assert "does not exist" in no_boot("--esp-file", f"guest.elf={tmp_path / 'none'}")
    assert "unix:PATH" in no_boot("--console", "telnet")
    assert "gdbstub" in no_boot("--emulator", "bochs", "--gdb")


def test_launcher_says_which_guest_kernel_it_takes(tmp_path):
    """One beside the config goes before the built one: a stale one would go unnoticed."""
    config, own = tmp_path / "mine.dts", tmp_path / "guest.elf"
    config.write_text('/dts-v1/; / { compatible = "aerostat,config-1"; guests { vm { kernel = "guest.elf"; }; }; };')
    boot = ("--config", config, "--disk", tmp_path, "--omit", "aerostat.elf")  # a folder is no disk: it ends there
    assert "beside the config" not in no_boot(*boot)
    own.write_bytes(b"old")
    assert f"guest.elf is {own}, which lies beside the config, not " in no_boot(*boot)
    assert "beside the config" not in no_boot(*boot, "--esp-file", f"guest.elf={BUILD / 'guest.elf'}")


def test_launcher_shows_dtc_where_a_config_is_wrong(tmp_path):
    config = tmp_path / "bad.dts"
    config.write_text("/dts-v1/;\n/ {\n\tpool = ;\n};\n")
    said = no_boot("--config", config)
    assert "bad.dts" in said and "3" in said


def test_launcher_leaves_a_foreign_disk_alone(tmp_path):
    disk = tmp_path / "precious.img"
    disk.write_bytes(b"my thesis" * 1000)
    assert "left alone" in no_boot("--disk", disk)
    assert disk.read_bytes() == b"my thesis" * 1000


def test_launcher_ends_at_its_timeout():
    code, text = launch(["--emulator", "qemu", "--timeout", 1])
    assert code == 124
    assert "--timeout" in text
