"""Include directions between rooms (docs/architecture.md). Run from the top folder."""
import re
import subprocess
import sys

# Longest prefix wins: what a file below it may include, by prefix.
ALLOWED = {
    "boot/": ["boot/", "vmm/base/"],
    "arch/x86/": ["arch/x86/", "vmm/virt.h", "vmm/platform.h", "mm/slat.h", "mm/frame.h", "mm/p2m.h",
                  "mm/heap.h", "vmm/base/", "vmm/abi/", "boot/handoff.h"],
    "vmm/": ["vmm/", "mm/", "balloon/", "arch/x86/arch.h", "boot/handoff.h"],
    "vmm/base/": ["vmm/base/"],
    "vmm/abi/": ["vmm/abi/"],
    "balloon/": ["balloon/", "mm/", "vmm/base/", "vmm/abi/"],
    "mm/": ["mm/", "vmm/base/"],
    "guest-drivers/": ["guest-drivers/", "vmm/abi/"],
}
# Words that must not appear below a room: who must not know of what.
FORBIDDEN = {
    "mm/": r"\b(EPT|NPT|VMCS|VMCB|ept_|npt_|vmcs_|vmread|vmwrite)\b",
    "vmm/": r"\b(VMCS|VMCB|vmcs_\w+|vmread|vmwrite|rdmsr|wrmsr)\b",
    "balloon/": r"\b(EPT|NPT|VMCS|VMCB|vmread|vmwrite)\b",
}


def code_only(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)


bad = 0
files = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.S"], capture_output=True, text=True,
                       check=True).stdout.split()
for path in files:
    room = max((p for p in ALLOWED if path.startswith(p)), key=len, default=None)
    if room is None:
        continue
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if found and not any(found.group(1).startswith(a) for a in ALLOWED[room]):
            print(f"{path}:{number}: {room} may not include {found.group(1)}")
            bad += 1
    words = FORBIDDEN.get(max((p for p in FORBIDDEN if path.startswith(p)), key=len, default=""), None)
    if words:
        for number, line in enumerate(code_only(text).splitlines(), 1):
            if re.search(words, line):
                print(f"{path}:{number}: {room} must not know of this: {line.strip()}")
                bad += 1
sys.exit(1 if bad else 0)
