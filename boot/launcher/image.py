"""Builds what the machine boots from: the compiled config, the boot volume, the data disk."""
import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

from . import LaunchError

CYLINDER_BYTES = 16 * 63 * 512  # Bochs wants whole cylinders
DATA_DISK_BYTES = 512 << 20
DATA_MAGIC = b"AEROSTATDISK\0\0\0\0"
DATA_VERSION = 1
DATA_HEADER_BYTES = 1 << 20  # room for what lies before the guests' regions


def tool(name, package):
    path = shutil.which(name)
    if not path:
        raise LaunchError(f"{name} is missing: run `make deps`, or `apt-get install {package}`")
    return path


def run_tool(args, what, **options):
    """Runs a helper program; its own complaint becomes the message if it fails."""
    done = subprocess.run(args, capture_output=True, text=True, errors="replace", **options)
    if done.returncode:
        raise LaunchError(f"{what}:\n{(done.stderr or done.stdout).strip()}")
    if done.stderr.strip():
        print(done.stderr.strip())
    return done.stdout


def compile_config(source, target):
    """FILE.dts (which may use #include and macros) to a device tree blob."""
    source = Path(source)
    if not source.is_file():
        raise LaunchError(f"{source}: no such config; see boot/configs/demo.dts for one to start from")
    if source.suffix == ".dtb":
        shutil.copyfile(source, target)
        return
    text = run_tool([tool("gcc", "gcc"), "-E", "-nostdinc", "-undef", "-D__DTS__", "-x",
                     "assembler-with-cpp", "-I", source.parent, source], f"{source} does not preprocess")
    run_tool([tool("dtc", "device-tree-compiler"), "-I", "dts", "-O", "dtb", "-o", target, "-"],
             f"{source} does not compile", input=text)


def decompiled(dtb):
    """A compiled config as text again. A tree that dtc cannot read is empty: the loader will say what is
    wrong with it."""
    return subprocess.run([tool("dtc", "device-tree-compiler"), "-q", "-I", "dtb", "-O", "dts", dtb],
                          capture_output=True, text=True, errors="replace", check=False).stdout


def kernels_named(dtb):
    """The guest images that a compiled config asks for."""
    names = re.findall(r'^\s*kernel = "([A-Za-z0-9_.-]+)";', decompiled(dtb), re.M)
    return list(dict.fromkeys(names))


def config_bytes(value):
    """A size as docs/config.md has them: "32M", "64" (KiB), or cells of bytes. What is none is 0."""
    text = re.fullmatch(r'"(\d+)([KkMmGg]?)"', value)
    if text:
        return int(text.group(1)) << {"": 10, "k": 10, "m": 20, "g": 30}[text.group(2).lower()]
    cells = re.fullmatch(r"<((?:0x[0-9a-f]+ ?){1,2})>", value)
    size = 0
    for cell in cells.group(1).split() if cells else ():
        size = size << 32 | int(cell, 16)
    return size


def data_disk_bytes(dtb):
    """How large the data disk must be for a compiled config: each guest's region, and swap behind them."""
    need, open_nodes = DATA_HEADER_BYTES, []
    for line in decompiled(dtb).splitlines():
        line = line.strip()
        found = re.fullmatch(r"([\w,.+-]+) = (.*);", line)
        if line.endswith("{"):
            open_nodes.append({})
        elif found and open_nodes:
            open_nodes[-1][found.group(1)] = found.group(2)
        elif line == "};" and open_nodes:
            node = open_nodes.pop()
            count = config_bytes(node.get("count", "<0x1>"))
            need += config_bytes(node.get("disk", "")) * count + config_bytes(node.get("swap", ""))
    return whole_cylinders(max(need, DATA_DISK_BYTES))


def whole_cylinders(size):
    return -(-size // CYLINDER_BYTES) * CYLINDER_BYTES


def make_boot_volume(image, files):
    """A FAT file system without a partition table. `files`: path on the volume -> file here."""
    size = whole_cylinders(sum(Path(f).stat().st_size for f in files.values()) + (16 << 20))
    with open(image, "wb") as f:
        f.truncate(size)
    env = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": "/dev/null"}
    what = "the boot volume cannot be made"
    run_tool([tool("mformat", "mtools"), "-i", image, "-t", str(size // CYLINDER_BYTES), "-h", "16",
              "-s", "63", "-N", "41455253", "-v", "AEROSTAT", "::"], what, env=env)
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    run_tool(["mmd", "-i", image, *(f"::/{f}" for f in sorted(folders))], what, env=env)
    for name, source in files.items():
        run_tool(["mcopy", "-i", image, source, f"::/{name}"], what, env=env)


def open_data_disk(path, size=DATA_DISK_BYTES):
    """Creates the guests' disk, or takes an existing one that has the header, and locks it. One that is
    too small grows at its end. The returned file keeps the lock. A file without the header is never touched."""
    path = Path(path)
    try:
        if not path.exists():
            with open(path, "xb") as f:
                f.write(DATA_MAGIC + DATA_VERSION.to_bytes(4, "little"))
                f.truncate(whole_cylinders(size))
        disk = open(path, "r+b")
    except OSError as e:
        raise LaunchError(f"the data disk {path}: {e.strerror}") from e
    head = disk.read(20)
    if head[:16] != DATA_MAGIC:
        raise LaunchError(f"{path} is not an Aerostat data disk and is left alone: "
                          "name a file that does not exist and it will be created")
    if int.from_bytes(head[16:20], "little") != DATA_VERSION:
        raise LaunchError(f"{path} is a data disk of another version: name another file")
    try:
        fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        raise LaunchError(f"{path} is in use by another boot/run") from e
    if path.is_file() and os.fstat(disk.fileno()).st_size < size:
        disk.truncate(size)
    return disk
