"""The ladder's benchmarks: what each rung costs, there and back; how long a target takes; two pagers.

One machine (reclaim.dts). Ticks as everywhere: instructions, by the TSC.
"""
import re
import time

PAGES = 1024
KINDS = {"zero": "zero", "compress": "words", "swap": "random"}


def numbers(pattern, text):
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in:\n{text}"
    return [int(n) for n in found.groups()]


def rung(machine, name):
    """(ticks a page there, ticks a page of the disk's work, what the guest says of the way back)."""
    said = machine.guest_shell("bench", f"pages fill {KINDS[name]}", 120)
    blocks = re.findall(r"pages at (\d+) count (\d+)", said)
    assert len(blocks) == 2, said
    taken = step = disk = 0
    for first, count in blocks:
        t = numbers(r"(\d+) of \d+ pages, (\d+) ticks, disk (\d+)",
                    machine.cmd(f"debug reclaim bench {first} {count} {name}", 120))
        taken, step, disk = taken + t[0], step + t[1], disk + t[2]
    assert taken == PAGES, f"{name}: {taken} of {PAGES} pages went"
    median, mean = numbers(r"touched \d+ median (\d+) mean (\d+)", machine.guest_shell("bench", "pages read", 120))
    return step, disk, median, mean


def rungs(machine, figures):
    for name in KINDS:
        step, disk, median, mean = rung(machine, name)
        figures[f"reclaim_1000_{name}"] = (step * 1000 // PAGES, "ticks")
        if name == "compress":
            figures["expand_4k"] = (median, "ticks")  # a fault on a compressed page, the guest's whole view
        if name == "swap":
            figures["swap_out_4k"] = ((step + disk) // PAGES, "ticks")  # with the disk's work
            figures["swap_in_4k"] = (median, "ticks")  # its neighbours came with it
            figures["swap_in_4k_mean"] = (mean, "ticks")  # with the waits for the disk
    machine.guest_shell("bench", "pages drop")


def fill(machine, guest):
    """Touches nearly all that a guest has; its process ends, so the pages are free there."""
    pid = numbers(r"\[(\d+)\]", machine.guest_shell(guest, "run hog 26M 1"))[0]
    machine.guest_shell(guest, f"wait {pid}", 120)


def latency(machine, guest):
    """Ticks until 8 MiB are there: from what it held, all but 32 of its pages touched before."""
    fill(machine, guest)
    held = next(g for g in machine.cmd_json("list")["guests"] if g["name"] == guest)["used_pages"] * 4
    machine.cmd(f"debug latency {guest} {held - 8192}")
    for _ in range(60):
        said = machine.cmd("debug latency")
        if "not yet" not in said:
            machine.cmd(f"mem-set {guest} 32M")
            return numbers(r"reached in (\d+) ticks", said)[0]
        time.sleep(1)
    raise AssertionError(f"{guest}: 8 MiB are not there")


def paging(machine):
    """(its own disk's pages, swap's pages) of a guest with 8 of 16 MiB that fills 18 MiB twice."""
    def counts():
        return numbers(r"its disk: read (\d+) written (\d+); swap: read (\d+) written (\d+); dropped: read (\d+)",
                       machine.cmd("debug paging pager"))
    before = counts()
    pid = numbers(r"\[(\d+)\]", machine.guest_shell("pager", "run hog 18M 2"))[0]
    machine.guest_shell("pager", f"wait {pid}", 300)
    after = counts()
    spent = [a - b for a, b in zip(after, before)]
    assert f"{pid} ended" in " ".join(machine.guest_shell("pager", "ps").split()), "the pager was killed"
    return sum(spent[:2]), sum(spent[2:])


def double_paging(machine, figures):
    """Each time with a guest that is new: what the last round left where would count."""
    for how, suffix in (("normal", ""), ("nodrop", "_nodrop"), ("naive", "_naive")):
        machine.cmd("destroy pager")
        machine.cmd(f"debug paging {how}")
        machine.cmd("create pager")
        machine.cmd("mem-set pager 8M")
        own, swap = paging(machine)
        figures[f"double_paging{suffix}"] = (own + swap, "pages")
        figures[f"double_paging{suffix}_swap"] = (swap, "pages")
    machine.cmd("debug paging normal")
    machine.cmd("debug paging drop")


CACHE_PASSES = 16


def cached(machine, how):
    """A guest whose page cache holds all of a file of 9 MiB, held to 6 MiB of its 16: what it costs to have it go, and
    to read the file through it sixteen times. Pages written to swap, page I/Os of all kinds, ticks of the reading."""
    def counts():
        return numbers(r"at (\d+);.*its disk: read (\d+) written (\d+); swap: read (\d+) written (\d+); "
                       r"dropped: read (\d+)", machine.cmd("debug paging cacher"))

    def read(passes):
        pid = numbers(r"\[(\d+)\]", machine.guest_shell("cacher", f"run cache 9M {passes}"))[0]
        said = machine.guest_shell("cacher", f"wait {pid}", 600)
        assert f"exit 0, {passes} passes, 0 errors" in said, said
    machine.cmd("destroy cacher")
    machine.cmd(f"debug paging {how}")
    machine.cmd("create cacher")
    read(2)  # written, and all of it cached
    before = counts()
    machine.cmd("mem-set cacher 6M")
    for _ in range(120):
        if ": reached" in machine.cmd("mem-why cacher"):
            break
        time.sleep(0.5)
    start = counts()
    read(CACHE_PASSES)
    end = counts()
    spent = [n - was for n, was in zip(end, before)]
    return spent[4], sum(spent[1:]), end[0] - start[0]


def page_cache(machine, figures):
    """VSwapper's second finding: clean pages of a page cache bigger than its guest's share, dropped or swapped."""
    for how in ("drop", "nodrop"):
        written, ios, ticks = cached(machine, how)
        suffix = "" if how == "drop" else "_swapped"
        figures[f"page_cache{suffix}"] = (ios, "pages")
        figures[f"page_cache{suffix}_written"] = (written, "pages")
        figures[f"page_cache{suffix}_pass"] = (ticks // CACHE_PASSES, "ticks")
    machine.cmd("debug paging drop")


def measure(make_machine, top):
    """{name: (value, unit)}"""
    figures = {}
    machine = make_machine("bench-reclaim")
    try:
        machine.boot(config=top / "tests/bench/reclaim.dts", emulator="bochs", memory="256M")
        rungs(machine, figures)
        figures["target_latency"] = (latency(machine, "coop"), "ticks")
        figures["target_latency_hostile"] = (latency(machine, "liar"), "ticks")
        double_paging(machine, figures)
        page_cache(machine, figures)
        machine.audit()
        machine.shutdown()
    finally:
        machine.close()
    return figures


if __name__ == "__main__":
    import sys
    from pathlib import Path

    here = Path(__file__).resolve().parent.parent.parent
    sys.path.insert(0, str(here / "tests/system"))
    from machine import Machine
    for key, (value, unit) in measure(Machine, here).items():
        print(f"bench {key} {value} {unit}")
