#!/usr/bin/python3
"""Runs the test suites and prints 'N passed, N failed' as the last line.

tests/run.py all | check | unit | fuzz [--seconds S] | system [pytest arguments]
AEROSTAT_BACKEND=vmx or svm limits `system` to that back end, AEROSTAT_CPUS=N to machines with N processors.
"""
import os
import re
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
PYTHON = "/usr/bin/python3"  # Debian's, which has pytest and pexpect
FUZZ_RUNS = 200_000  # inputs a fuzz target in `make test`
THREADED = ("test_mm_threads", "test_sched_smp")  # they wait for threads of theirs by the clock, or spin
SLOW_RUNS = {"fuzz_hypercall": 60_000}  # a whole guest for each input


def say(text):
    sys.stdout.write(text + "\n")  # in one piece
    sys.stdout.flush()


def unit_binary(binary, prefix=()):
    """A cmocka program; its own summary gives the counts."""
    start = time.time()
    done = subprocess.run([*prefix, binary], capture_output=True, text=True, errors="replace",
                          env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"})
    out = done.stdout + done.stderr
    ok = len(re.findall(r"^\[       OK \]", out, re.M))
    bad = len(set(re.findall(r"^\[  FAILED  \] (?!\d+ test)(\S+)", out, re.M)))
    if done.returncode != 0 and bad == 0:
        bad = 1  # crashed, or a sanitizer stopped it
    if ok + bad == 0:
        bad = 1
        out += "\nno test ran\n"
    say(f"unit   {binary.name[5:]:<22} {ok} passed, {bad} failed  {time.time() - start:.1f} s"
        + (f"\n{out[-6000:]}" if bad else ""))
    return ok, bad


def unit():
    binaries = sorted((BUILD / "unit").glob("test_*"))
    return [(0, unit_binary, (b,)) for b in binaries if not b.suffix]


def fuzz_target(binary, seconds=0, prefix=()):
    start = time.time()
    corpus = TOP / "tests/fuzz/corpus" / binary.name[5:]
    work = BUILD / "corpus" / binary.name[5:]
    work.mkdir(parents=True, exist_ok=True)
    runs = SLOW_RUNS.get(binary.name, FUZZ_RUNS)
    limit = [f"-max_total_time={seconds}"] if seconds else [f"-runs={runs}", "-seed=1"]
    done = subprocess.run([*prefix, binary, *limit, "-max_len=8192", "-timeout=30", "-print_final_stats=1",
                           f"-artifact_prefix={work}/", work, *([corpus] if corpus.is_dir() else [])],
                          capture_output=True, text=True, errors="replace")
    found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    runs = int(found.group(1)) if found else 0
    good = done.returncode == 0 and runs > 0
    say(f"fuzz   {binary.name[5:]:<22} {runs} inputs, {'clean' if good else 'FAILED'}  {time.time() - start:.1f} s"
        + ("" if good else f"\n{done.stderr[-6000:]}"))
    return good, not good


def fuzz(seconds=0):
    return [(0, fuzz_target, (b, seconds)) for b in sorted((BUILD / "fuzz").glob("fuzz_*"))]


def check():
    passed = failed = 0
    for script in sorted((TOP / "tests/check").glob("*.py")):
        done = subprocess.run([sys.executable, script], cwd=TOP, capture_output=True, text=True)
        good = done.returncode == 0
        passed, failed = passed + good, failed + (not good)
        say(f"check  {script.stem:<22} {'ok' if good else 'FAILED'}")
        if not good:
            say(done.stdout + done.stderr)
    return passed, failed


# About how long a file takes on one kind of machine, alone on a core: what matters is who begins.
SECONDS = {("tax", "svm"): 200, ("reclaim", "svm"): 150, ("overcommit", "svm"): 110, ("balloon", "svm"): 80,
           ("smp", "svm"): 65, ("disk", "svm"): 60, ("boot_errors", "svm"): 60, ("console", "vmx"): 40}
USUAL_SECONDS = {"vmx": 120, "svm": 30}

CPUS = {"vmx": (1, 2), "svm": (1, 4)}  # of the machines that a file of system tests is run on
DEBUG_CPUS = {"vmx": 4, "svm": 2}  # so that test_smp meets 2 and 4 of both
DEBUG = "build/debug"  # an image with lock checks: make DEBUG=1 B=build/debug image


def flavours(path):
    """(back end, CPUs, build folder) of each run of a file: both back ends, unless it says BACKENDS = (...);
    with one CPU and several, unless it chooses its machines itself (then it says BACKENDS, too) or says
    SEVERAL_CPUS = True, or ("vmx",): on this one alone."""
    text = path.read_text()
    found = re.search(r"^BACKENDS = \(([^)]*)\)", text, re.M)
    backends = re.findall(r"\w+", found.group(1)) if found else list(CPUS)
    wanted = os.environ.get("AEROSTAT_BACKEND", "vmx svm").split()
    asked = os.environ.get("AEROSTAT_CPUS")
    for backend in (b for b in backends if b in wanted):
        counts = (int(asked),) if asked else CPUS[backend]
        if re.search(r"^ONE_MACHINE = True", text, re.M):
            counts = counts[:1]
        several = re.search(r"^SEVERAL_CPUS = (.*)", text, re.M)
        if several and (several[1] == "True" or backend in several[1]):
            counts = counts[-1:]
        if path.stem == "test_smp":
            counts = [n for n in counts if n > 1]
            if (TOP / DEBUG / "aerostat.elf").exists():
                yield backend, int(asked or DEBUG_CPUS[backend]), DEBUG
        yield from ((backend, n, "build") for n in counts)


def system_file(path, flavour, args):
    """One file of tests on one kind of machine: a boot or a few of its own, so two run side by side."""
    backend, cpus, build = flavour
    name = f"{backend}{cpus if cpus > 1 else ''}{'-debug' if build == DEBUG else ''}"
    report = BUILD / "system" / f"{path.stem}-{name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    start = time.time()
    done = subprocess.run([PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short",
                           f"--junitxml={report}", path, *args], cwd=TOP, capture_output=True,
                          text=True, errors="replace",
                          env={**os.environ, "AEROSTAT_BACKEND": backend, "AEROSTAT_CPUS": str(cpus),
                               "AEROSTAT_BUILD": build, "AEROSTAT_FLAVOUR": name})
    count = {}
    if report.exists():
        found = re.findall(r'\b(tests|failures|errors|skipped)="(\d+)"', report.read_text())
        count = {k: int(v) for k, v in reversed(found)}  # the suite's own stand first
    bad = count.get("failures", 0) + count.get("errors", 0)
    good = count.get("tests", 0) - bad - count.get("skipped", 0)
    if done.returncode not in (0, 1) or good + bad == 0:
        bad += 1
    text = f"system {path.stem[5:]:<17} {name:<10} {good} passed, {bad} failed  {time.time() - start:.0f} s"
    say(text + ("\n" + done.stdout[-8000:] + done.stderr[-2000:] if bad else ""))
    return good, bad


def system(args=()):
    """VMX in Bochs and SVM in QEMU, from the same image, with one CPU and several."""
    named = [TOP / a for a in args if a.endswith(".py")]
    rest = [a for a in args if not a.endswith(".py")]
    files = named or sorted((TOP / "tests/system").glob("test_*.py"))
    return [(SECONDS.get((f.stem[5:], flavour[0]), USUAL_SECONDS[flavour[0]]), system_file, (f, flavour, rest))
            for f in files for flavour in flavours(f)]


def run(jobs):
    """Two at a time: the machines that run this have two cores. The longest begin, so that both end together. Beside
    two emulators a third job of those that need none takes only the time that these leave."""
    images = {f: (BUILD / f).read_bytes() for f in ("aerostat.elf", "guest.elf", "BOOTX64.EFI") if (BUILD / f).exists()}
    jobs = sorted(jobs, key=lambda j: -j[0])
    machines = deque(j for j in jobs if j[1] is system_file or j[2][0].name in THREADED)
    others = deque(j for j in jobs if j not in machines)
    results = []

    def work(queues, **options):
        for queue in queues:
            while True:
                try:
                    _, job, args = queue.popleft()
                except IndexError:
                    break
                results.append(job(*args, **options))

    any_machine = any(j[1] is system_file for j in machines)
    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, (machines, others)) for _ in range(2)]
        if any_machine:
            workers.append(pool.submit(work, (others,), prefix=("nice", "-n", "19")))
    for worker in workers:
        worker.result()  # raises what went wrong in it
    if any_machine:
        same = all((BUILD / f).read_bytes() == data for f, data in images.items())
        say(f"system one image for both: {'ok' if same else 'FAILED, build/ changed meanwhile'}")
        results.append((same, not same))
    return results


def main():
    os.chdir(TOP)
    what = sys.argv[1] if len(sys.argv) > 1 else "all"
    rest = sys.argv[2:]
    if what == "all":
        results = [check(), *run([*unit(), *fuzz(), *system()])]
    elif what == "check":
        results = [check()]
    elif what == "unit":
        results = run(unit())
    elif what == "fuzz":
        results = run(fuzz(int(rest[1]) if rest[:1] == ["--seconds"] else 0))
    elif what == "system":
        results = run(system(rest))
    else:
        sys.exit(__doc__)
    passed, failed = (sum(x) for x in zip(*results))
    say(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
