"""What tests ask of guests that run `hog`, a process that fills memory and verifies every byte of it."""
import re
import time


def rows(machine):
    """Name to what it is and holds, by `list -j`."""
    return {g["name"]: g for g in machine.cmd_json("list")["guests"]}


def hogs(machine, guest):
    """(pid, passes, errors) of each hog that has not ended."""
    found = []
    for line in machine.guest_shell(guest, "ps").splitlines():
        row = line.split()
        if "hog" in row and row[1] not in ("dead", "killed", "ended"):
            found.append((int(row[0]), int(row[6]), int(row[7])))
    return found


def kill_hogs(machine, guest):
    for pid, _, errors in hogs(machine, guest):
        assert errors == 0, f"{guest}: hog {pid} found {errors} errors"
        machine.guest_shell(guest, f"kill {pid}")


def wait_for(what, check, seconds=90):
    """Looks often, but leaves the machine more time than looking takes."""
    begin = time.monotonic()
    while True:
        looked = time.monotonic()
        if check():
            return
        now = time.monotonic()
        assert now < begin + seconds, f"not within {seconds} s: {what}"
        time.sleep(min(max(0.3, 2 * (now - looked)), 3))


def passes_more(machine, guest, seconds=120):
    """A hog of the guest verifies all its memory at least once more."""
    before = sum(p for _, p, _ in hogs(machine, guest))
    wait_for(f"{guest}: another pass of its hog",
             lambda: sum(p for _, p, _ in hogs(machine, guest)) > before, seconds)
    assert all(e == 0 for _, _, e in hogs(machine, guest))


def vmstat(machine, guest, name):
    return int(re.search(rf"^{name} (\d+)", machine.guest_shell(guest, "vmstat"), re.M).group(1))


def all_alive(machine):
    for guest, row in rows(machine).items():
        assert row["state"] == "running", f"{guest} is {row['state']}"
