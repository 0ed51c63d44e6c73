"""Chooses a machine and starts it. Each emulator's serial port is a pseudo-terminal of ours."""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from . import LaunchError
from .image import tool

OVMF = Path("/usr/share/OVMF")
BOCHS_VGA = "/usr/share/bochs/VGABIOS-lgpl-latest"
PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
QEMU = "qemu-system-x86_64"


# QEMU's own emulation has SVM with nested paging on AMD models. check=off: no list of what it lacks.
QEMU_CPU = "EPYC,+svm,+npt,check=off"


def nested_kvm():
    """("VMX" or "SVM", "") if a guest of KVM here would itself get it; else (None, why not)."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as e:
        return None, f"/dev/kvm: {e.strerror}"
    flags = Path("/proc/cpuinfo").read_text(errors="replace").split()
    for flag, module, name in (("vmx", "kvm_intel", "VMX"), ("svm", "kvm_amd", "SVM")):
        if flag not in flags:
            continue
        try:
            nested = Path(f"/sys/module/{module}/parameters/nested").read_text().strip()
        except OSError:
            return None, f"{module} is not loaded"
        if nested in ("Y", "1"):
            return name, ""
        return None, f"{module} has nested={nested} (modprobe {module} nested=1)"
    return None, "this CPU shows neither vmx nor svm"


def choose(wanted, gdb, disk_bus):
    """The emulator to use, and one line that says why. In this order: KVM, which is fast; QEMU, which
    is everywhere and emulates SVM; Bochs, which emulates VMX."""
    kvm, why = nested_kvm() if wanted in ("auto", "kvm") else (None, "")
    if wanted == "kvm" and not kvm:
        raise LaunchError(f"KVM here has no nested virtualisation ({why}): use --emulator qemu or bochs")
    if wanted == "bochs" and gdb:
        raise LaunchError("--gdb needs QEMU's gdbstub: use --emulator qemu (or kvm)")
    if wanted == "bochs" and disk_bus == "virtio":
        raise LaunchError("Bochs has no virtio disks: use --emulator qemu (or kvm), or --disk-bus ide")
    if wanted != "auto":
        return wanted, f"{wanted}, as asked"
    if kvm:
        return "kvm", f"KVM: it offers nested {kvm} here"
    if gdb or disk_bus == "virtio" or shutil.which(QEMU) or not shutil.which("bochs"):
        return "qemu", f"QEMU, which emulates SVM: no nested virtualisation in KVM here ({why})"
    return "bochs", f"Bochs, which emulates VMX: no nested virtualisation in KVM here ({why}), and no QEMU"


def ovmf(name):
    path = OVMF / name
    if not path.is_file():
        raise LaunchError(f"{path} is missing: run `make deps`, or `apt-get install ovmf`")
    return path


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def isolate():
    """Bochs's only headless display is a VNC server without a password on all interfaces (ports 5900
    to 5949). Out of the network it harms nobody. Where the kernel forbids that, it stays as it is."""
    die_with_parent()
    libc = ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWNET) != 0:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def bochs_command(work, opts, tty):
    firmware = work / "ovmf.fd"
    firmware.write_bytes(ovmf("OVMF_VARS.fd").read_bytes() + ovmf("OVMF_CODE.fd").read_bytes())
    mib = opts.memory_mib
    for disk in (work / "boot.img", opts.disk_path):  # what a killed Bochs leaves; we hold our own
        Path(f"{disk}.lock").unlink(missing_ok=True)
    lines = [
        f"megs: {mib}" if mib <= 2048 else f"memory: guest={mib}, host=2048",
        f"romimage: file={firmware}, address=0xffe00000",
        f"vgaromimage: file={BOCHS_VGA}",
        'display_library: rfb, options="timeout=0"',
        f"cpu: model={opts.cpu_model or 'corei7_skylake_x'}, count={opts.cpus}, ips=100000000, "
        "reset_on_triple_fault=0",
        "clock: sync=none, time0=1767225600",  # a fixed date: runs repeat exactly
        f'ata0-master: type=disk, path="{work / "boot.img"}", mode=flat',
        f'ata0-slave: type=disk, path="{opts.disk_path}", mode=flat',
        "boot: disk",
        # Without these it looks for a sound card, and dies where there is none.
        "sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy", "speaker: enabled=0",
        f"com1: enabled=1, mode=term, dev={tty}",
        f"log: {work / 'bochs.log'}",
        "panic: action=fatal", "error: action=ignore", "info: action=ignore", "debug: action=ignore",
    ]
    (work / "bochsrc").write_text("\n".join(lines) + "\n")
    (work / "rc").write_text("c\nq\n")  # the debugger's commands: go; quit when it stops
    return [tool("bochs", "bochs"), "-q", "-f", str(work / "bochsrc"), "-rc", str(work / "rc")]


def qemu_command(work, opts, tty, kvm):
    shutil.copyfile(ovmf("OVMF_VARS.fd"), work / "vars.fd")

    def drive(path, where):
        return ["-drive", f"file={str(path).replace(',', ',,')},format=raw,{where},media=disk"]

    data = drive(opts.disk_path, "if=ide,index=1") if opts.disk_bus == "ide" else \
        [*drive(opts.disk_path, "if=none,id=data"), "-device", "virtio-blk-pci,drive=data,serial=aerostat"]

    # A thread for each processor loses interrupts and takes some where none may come: helper_vmrun() of
    # QEMU 7.2 changes interrupt_request without a lock beside the other threads.
    accel = ["-accel", "kvm", "-cpu", opts.cpu_model or "host"] if kvm else \
        ["-accel", "tcg,thread=single", "-cpu", opts.cpu_model or QEMU_CPU]
    command = [tool(QEMU, "qemu-system-x86"), "-nodefaults", "-no-user-config", "-machine", "pc", *accel,
               "-m", f"{opts.memory_mib}M", "-smp", str(opts.cpus), "-vga", "std", "-display", "none",
               "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
               "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={ovmf('OVMF_CODE.fd')}",
               "-drive", f"if=pflash,format=raw,unit=1,file={str(work / 'vars.fd').replace(',', ',,')}",
               *drive(work / "boot.img", "if=ide,index=0"), *data,
               "-chardev", f"serial,id=com1,path={tty}", "-serial", "chardev:com1"]
    if opts.gdb:
        command += ["-S", "-gdb", f"tcp:127.0.0.1:{opts.gdb_port}"]
    return command


class Emulator:
    """A running emulator; log() is what it said itself, apart from the serial console."""

    def __init__(self, name, work, opts, tty):
        self.log_paths = [work / "emulator.log", work / "bochs.log"]
        command = bochs_command(work, opts, tty) if name == "bochs" else \
            qemu_command(work, opts, tty, name == "kvm")
        (work / "command").write_text(" ".join(command) + "\n")
        with open(work / "emulator.log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=work, start_new_session=True,
                                            preexec_fn=isolate if name == "bochs" else die_with_parent)

    def log(self, limit=15):
        """The last lines that are not banner or decoration."""
        lines = []
        for path in self.log_paths:
            if path.is_file():
                with open(path, "rb") as f:
                    f.seek(max(0, path.stat().st_size - 8192))
                    lines += f.read().decode(errors="replace").splitlines()
        return "\n".join([l for l in lines if l.strip(" =")][-limit:])

    def stop(self):
        """Ends it, kindly first; returns when it is gone."""
        for sig in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is not None:
                return
            self.process.send_signal(sig)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                pass
