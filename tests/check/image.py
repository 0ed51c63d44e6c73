"""The image has no code with vector registers but liblz4's, and there nothing newer than SSE2: what vector_begin()
saves is all that such code can change (vmm/base/vector.h). Run from the top folder, after the build."""
import re
import subprocess
import sys
from pathlib import Path

bad = 0
for image in ("build/aerostat.elf", "build/debug/aerostat.elf"):
    if not Path(image).exists():
        continue
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", image], capture_output=True, text=True,
                          check=True).stdout
    function, library = "", 0
    for line in text.splitlines():
        found = re.match(r"[0-9a-f]+ <(.*)>:", line)
        if found:
            function = found.group(1)
            continue
        if re.search(r"%[yz]mm|%k[0-7]\b|\tv[a-z0-9]+ .*%xmm|%st\b|%mm[0-7]", line):
            print(f"{image}: {function}: wider than what is saved: {line.strip()}")
            bad += 1
        elif "%xmm" in line:
            library += 1
            if not function.startswith("LZ4_"):
                print(f"{image}: {function}: vector registers outside the library: {line.strip()}")
                bad += 1
    if not library:
        print(f"{image}: no vector registers at all: does this look at the right thing?")
        bad += 1
sys.exit(1 if bad else 0)
