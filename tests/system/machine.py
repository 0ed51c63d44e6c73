"""A booted Aerostat for tests: pexpect over `boot/run --console stdio`.

    m = Machine("mytest")
    m.boot(config="demo")                  # waits for the prompt
    text = m.cmd("list")                   # what it printed, up to the next prompt
    data = m.cmd_json("list")              # the same with -j, as Python objects
    m.wait_log("vm0 crashed")              # a line of the hypervisor's log
    text = m.guest_shell("vm0", "free")    # a command on a guest's own shell
    m.audit()                              # mem-audit; fails the test if it is not clean
    m.shutdown()                           # or close(), which only ends the emulator

All that the machine prints is saved in build/system/<name>.log.

The back end is BACKEND (environment AEROSTAT_BACKEND: vmx or svm): VMX in Bochs, SVM in QEMU. Machines
have CPUS processors (AEROSTAT_CPUS, 1) where a test does not ask for a number.
"""
import fcntl
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pexpect

TOP = Path(__file__).resolve().parent.parent.parent
OUT = TOP / "build/system"
RUN = TOP / "boot/run"
PROMPT = "aerostat> "
GUEST_PROMPT = r"[\w-]+[$#>] "
ESCAPE = "\x1d"  # Ctrl-]: back from a guest's console
SLOTS = 2  # emulators at a time on this machine (two cores)
BOOT_SECONDS = 240
BACKEND = os.environ.get("AEROSTAT_BACKEND", "vmx")
CPUS = int(os.environ.get("AEROSTAT_CPUS", "1"))
FLAVOUR = os.environ.get("AEROSTAT_FLAVOUR", f"{BACKEND}{CPUS if CPUS > 1 else ''}")  # in the names of logs
EMULATORS = {"vmx": "bochs", "svm": "qemu"}
COMMAND_SECONDS = 120  # nothing takes so long; machines that others share may
CLEAR_LINE = "\x15"  # Ctrl-U: an empty line, and the prompt drawn again
HIDDEN = re.compile(r"[^\n]*\r\x1b\[K")  # the prompt and the line being typed give way to a line of the log
LOG_LINE = re.compile(r"\[ *\d+\.\d{6}\] .*")
ANSI = re.compile(r"\x1b(\[[0-9;=?]*[A-Za-z]|[()][A-Z0-9])")


class MachineError(AssertionError):
    """The machine did not do what the harness waited for; carries the end of the transcript."""


class Slot:
    """One of the emulator slots: a lock that ends with its holder, however that ends."""

    def __init__(self):
        self.file = None

    def take(self, seconds=900):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for n in range(SLOTS):
                f = open(f"/tmp/aerostat-emu.{n}", "a")  # noqa: SIM115 - kept open: it is the lock
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.file = f
                    return
                except OSError:
                    f.close()
            time.sleep(1)
        raise MachineError("no emulator slot became free")

    def give(self):
        if self.file:
            self.file.close()
            self.file = None


def plain(text):
    """Console text as a person sees it: no escape sequences, no carriage returns."""
    return ANSI.sub("", text).replace("\r", "")


def screen(text):
    """The lines that stay: without what was drawn and taken away again."""
    return plain(HIDDEN.sub("", text)).split("\n")


def config_path(config, folder):
    """A path, a name in boot/configs or tests/system, or the .dts text itself."""
    if "{" in str(config):
        path = Path(folder) / "test.dts"
        path.write_text(config)
        return path
    for path in (Path(config), TOP / "boot/configs" / f"{config}.dts", TOP / "tests/system" / f"{config}.dts"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no config {config}")


class Machine:
    def __init__(self, name):
        self.name = re.sub(r"[^\w.-]", "_", name)
        self.slot = Slot()
        self.child = self.log = None
        self.marks = 0
        self.folder = tempfile.TemporaryDirectory(prefix="aerostat-test.")

    # ---- life ------------------------------------------------------------------------------

    def start(self, config="demo", emulator=None, cpu_model=None, memory="256M", cpus=None, timeout=1800,
              extra=()):
        """Starts the emulator and returns at once; `timeout` bounds the whole run."""
        args = ["--emulator", emulator or EMULATORS[BACKEND], "--memory", memory, "--cpus", str(cpus or CPUS), "--timeout", str(timeout),
                "--config", str(config_path(config, self.folder.name)), *map(str, extra)]
        if cpu_model:
            args += ["--cpu-model", cpu_model]
        self.slot.take()
        OUT.mkdir(parents=True, exist_ok=True)
        self.log = open(OUT / f"{self.name}.log", "a", encoding="utf-8", errors="replace")
        self.log.write(f"\n==== boot/run {' '.join(args)}\n")
        self.child = pexpect.spawn(str(RUN), args, encoding="utf-8", codec_errors="replace", echo=False,
                                   timeout=COMMAND_SECONDS, maxread=2048,  # less than what is searched
                                   searchwindowsize=4096)
        self.child.delaybeforesend = None
        self.child.logfile_read = self.log
        return self

    def boot(self, **options):
        """Starts, and waits for the hypervisor's prompt."""
        self.start(**options)
        self.wait(PROMPT, BOOT_SECONDS, exact=True)
        return self

    def close(self):
        """Ends the emulator if it still runs, and gives its slot back."""
        if self.child and self.child.isalive():
            self.child.kill(signal.SIGTERM)
            try:
                self.child.expect(pexpect.EOF, timeout=10)
            except pexpect.TIMEOUT:
                pass
        if self.child:
            self.child.close(force=True)
            self.child = None
        if self.log:
            self.log.close()
            self.log = None
        self.slot.give()

    def wait_exit(self, seconds=60):
        """(exit status of boot/run, all that was printed since the last wait)."""
        text = self.wait(pexpect.EOF, seconds)
        self.child.close()
        code = self.child.exitstatus
        return (code if code is not None else 128 + (self.child.signalstatus or 0)), text

    def shutdown(self):
        """The console's own `shutdown`; the machine must end well."""
        self.child.send(CLEAR_LINE + "shutdown\r")
        code, text = self.wait_exit()
        if code != 0:
            raise MachineError(f"{self.name}: shutdown ended with status {code}:\n{text[-2000:]}")
        return text

    # ---- the console -----------------------------------------------------------------------

    def wait(self, pattern, seconds=COMMAND_SECONDS, exact=False):
        """Waits for a pattern (or one of a list); returns the text before it, cleaned."""
        expect = self.child.expect_exact if exact else self.child.expect
        try:
            expect(pattern, timeout=seconds)
        except (pexpect.TIMEOUT, pexpect.EOF) as e:
            what = "did not come in" if isinstance(e, pexpect.TIMEOUT) else "never came: the machine ended;"
            raise MachineError(f"{self.name}: {pattern!r} {what} {seconds} s; the last it said "
                               f"(build/system/{self.name}.log):\n"
                               f"{plain(self.child.before or '')[-3000:]}") from None
        return plain(self.child.before)

    def type(self, keys="", seconds=COMMAND_SECONDS):
        """Types keys at the prompt; returns all lines on the screen from there to the next prompt.

        A line of the log may come at any time: it takes prompt and line away and draws them again below itself. So
        neither a prompt nor a new line tells where an answer ends. What does: a word that nobody typed before, which
        stands behind a prompt once all before it was done; Ctrl-U then takes it away, but not before it was seen: with
        a line of the log in between it would never be drawn."""
        self.marks += 1
        mark = f"~{self.marks}~"
        self.child.send(f"{CLEAR_LINE}{keys}{mark}")
        self.wait(PROMPT + mark, seconds, exact=True)
        lines = screen(self.child.before)[:-1]
        self.child.send(CLEAR_LINE)
        return lines

    def cmd(self, line, seconds=COMMAND_SECONDS):
        """Types a line (or keys that make one); returns what it printed, without the echo and lines of the log."""
        lines = self.type(line + "\r", seconds)
        echoes = [n for n, text in enumerate(lines) if text.startswith(PROMPT)]
        if not echoes:
            raise MachineError(f"{self.name}: `{line}` was not echoed:\n" + "\n".join(lines))
        answer = lines[echoes[-1] + 1:]
        if line.split()[:1] != ["dmesg"]:
            answer = [text for text in answer if not LOG_LINE.fullmatch(text)]
        return "\n".join(answer).strip("\n")

    def wait_log(self, pattern, seconds=COMMAND_SECONDS, since=0):
        """Waits for a line of the log, which may have come already (`since`: an earlier said()); returns its match."""
        deadline = time.monotonic() + seconds
        while True:
            self.type()
            self.log.flush()
            with open(self.log.name, encoding="utf-8", errors="replace") as f:
                f.seek(since)
                lines = screen(f.read())
            found = [m for m in (re.search(pattern, text) for text in lines if LOG_LINE.match(text)) if m]
            if found:
                return found[0]
            if time.monotonic() > deadline:
                raise MachineError(f"{self.name}: {pattern!r} was not logged within {seconds} s:\n" + "\n".join(lines[-20:]))
            time.sleep(0.2)

    def said(self):
        """A place in the transcript, for wait_log()."""
        self.log.flush()
        return self.log.tell()

    def cmd_json(self, line, seconds=COMMAND_SECONDS):
        """The same with -j: one JSON object."""
        text = self.cmd(f"{line} -j", seconds)
        start = text.find("{")
        if start < 0:
            raise MachineError(f"{self.name}: `{line} -j` printed no JSON object:\n{text[-1000:]}")
        try:
            return json.JSONDecoder().raw_decode(text[start:])[0]
        except ValueError as e:
            raise MachineError(f"{self.name}: `{line} -j` printed bad JSON ({e}):\n{text[-1000:]}") from None

    def audit(self):
        """mem-audit must find nothing; returns its report."""
        text = self.cmd("mem-audit", 120)
        if not text.startswith("audit: clean ("):
            raise MachineError(f"{self.name}: mem-audit is not clean:\n{text}")
        return text

    # ---- guests ----------------------------------------------------------------------------

    def attach(self, guest, seconds=COMMAND_SECONDS):
        """To a guest's console, at its shell's prompt; returns what it had said meanwhile."""
        self.child.send(f"{CLEAR_LINE}console {guest}\r")
        self.wait(re.compile(rf"-- {re.escape(guest)}: Ctrl-\] returns --\r*\n|[\r\n]error: [^\r\n]*"), seconds)
        if "error: " in self.child.after:
            raise MachineError(f"{self.name}: `console {guest}`: {self.child.after.strip()}")
        # Its prompt may have scrolled by long ago, or be in the backlog, or not have come yet: what tells
        # is the answer to a word that nobody has said before.
        self.marks += 1
        self.child.send(f"echo here-{self.marks}\r")
        text = self.wait(re.compile(rf"[\r\n]here-{self.marks}\r*\n"), seconds)
        self.wait(GUEST_PROMPT, seconds)
        return text

    def detach(self):
        self.child.send(ESCAPE)
        self.type()

    def guest_cmd(self, line, seconds=COMMAND_SECONDS):
        """A command on the attached guest's shell; returns what it printed.

        As in type(): a line of the log draws the guest's prompt again, so the end is the answer to another word. That is
        typed when a prompt was seen, and not ahead: some commands read all that is typed."""
        self.marks += 1
        mark = f"here-{self.marks}"
        self.child.send(line + "\r")
        self.wait("\r?\n", seconds)
        text = self.child.before + "\n"
        self.wait(re.compile(r"(^|[\r\n])" + GUEST_PROMPT), seconds)
        text += self.child.before + self.child.after
        self.child.send(f"echo {mark}\r")
        self.wait(re.compile(rf"[\r\n]{mark}\r*\n"), seconds)
        lines = [text for text in screen(text + self.child.before) if not LOG_LINE.fullmatch(text)]
        self.wait(GUEST_PROMPT, seconds)
        first = next((n for n, text in enumerate(lines) if text.endswith(line)), -1)
        last = next((n for n, text in enumerate(lines) if text.endswith(f"# echo {mark}")), len(lines))
        return "\n".join(lines[first + 1:last]).strip("\n")

    def guest_shell(self, guest, line, seconds=COMMAND_SECONDS):
        """One command on a guest's shell, and back to the hypervisor's console."""
        self.attach(guest)
        try:
            return self.guest_cmd(line, seconds)
        finally:
            self.detach()


def launch(args, seconds=90):
    """Runs boot/run in a slot without a terminal; (exit status, all that was printed)."""
    slot = Slot()
    slot.take()
    try:
        done = subprocess.run([RUN, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds, check=False,
                              env={**os.environ, "TERM": "dumb"})
        return done.returncode, plain(done.stdout.decode(errors="replace"))
    finally:
        slot.give()
