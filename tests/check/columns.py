"""No line of C is wider than 120 columns, a tab being 8. (The layout aims at 100: .clang-format.) Run from the top folder."""
import subprocess
import sys

COLUMNS = 120
TAB = 8

bad = 0
files = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.S"], capture_output=True, text=True,
                       check=True).stdout.split()
for path in files:
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            width = len(line.rstrip("\n").expandtabs(TAB))
            if width > COLUMNS:
                print(f"{path}:{number}: {width} columns; {COLUMNS} at the most")
                bad += 1
sys.exit(1 if bad else 0)
