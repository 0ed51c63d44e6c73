"""The serial console: a pseudo-terminal on the emulator's side, the user's choice on the other."""
import errno
import os
import re
import select
import signal
import socket
import stat
import sys
import termios
import time
import tty

from . import LaunchError

ESCAPE = 0x01  # Ctrl-A
BACKLOG_BYTES = 65536  # what a client that comes late is shown
# The loader's or the hypervisor's last words: Bochs cannot return a code.
LAST_WORDS = re.compile(rb"aerostat: exit (\d+)\s*\Z")


def raw_pty():
    """(our end, its end kept open so that reads never fail, its name)."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    return ours, theirs, os.ttyname(theirs)


def write_some(fd, data):
    """Writes what fits; returns the rest. A reader that is gone swallows everything."""
    try:
        return data[os.write(fd, data):]
    except BlockingIOError:
        return data
    except OSError as e:
        if e.errno in (errno.EPIPE, errno.EIO, errno.ECONNRESET):
            return b""
        raise


class Stdio:
    """The terminal (raw while we run), or a pipe. Ctrl-A x ends the machine."""

    def __init__(self):
        self.readers = [0]
        self.saved = None
        self.escaped = False
        if os.isatty(0):
            self.saved = termios.tcgetattr(0)
            tty.setraw(0)

    def greeting(self):
        return "Ctrl-A x ends the machine (Ctrl-A Ctrl-A sends Ctrl-A)"

    def read(self, _fd):
        """(bytes for the machine, whether to end it)."""
        data = os.read(0, 4096)
        if not data:
            self.readers = []  # end of a pipe: the machine goes on without
        out = bytearray()
        for byte in data:
            if self.escaped:
                self.escaped = False
                if byte in b"xX":
                    return bytes(out), True
                if byte != ESCAPE:
                    continue
                out.append(byte)
            elif byte == ESCAPE:
                self.escaped = True
            else:
                out.append(byte)
        return bytes(out), False

    def write(self, data):
        while data:
            try:
                data = data[os.write(1, data):]
            except BlockingIOError:
                select.select([], [1], [], 1)
            except OSError:
                return

    def close(self):
        if self.saved:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)


class Pty:
    """A second pseudo-terminal for a program of the user's (screen, picocom, a script)."""

    def __init__(self):
        self.ours, self.theirs, self.name = raw_pty()
        self.readers = [self.ours]

    def greeting(self):
        return f"console on {self.name}; Ctrl-C here ends the machine"

    def read(self, fd):
        return os.read(fd, 4096), False

    def write(self, data):
        write_some(self.ours, data)  # nobody reads: dropped once the terminal's buffer is full

    def close(self):
        os.close(self.ours)
        os.close(self.theirs)


class Unix:
    """A listening socket; one client at a time, which first gets what it missed."""

    def __init__(self, path):
        self.path, self.client, self.backlog = path, None, b""
        if os.path.exists(path):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise LaunchError(f"{path} exists and is not a socket: name another path")
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        try:
            self.listener.bind(path)
        except OSError as e:
            raise LaunchError(f"the console's socket {path}: {e.strerror or e}") from e
        self.listener.listen(1)
        self.readers = [self.listener.fileno()]

    def greeting(self):
        return f"console on unix socket {self.path}; Ctrl-C here ends the machine"

    def drop(self):
        self.client.close()
        self.client = None
        self.readers = [self.listener.fileno()]

    def read(self, fd):
        if fd == self.listener.fileno():
            if self.client:
                self.drop()  # the newest client has it
            self.client, _ = self.listener.accept()
            self.client.setblocking(False)
            self.readers = [fd, self.client.fileno()]
            write_some(self.client.fileno(), self.backlog)
            return b"", False
        try:
            data = os.read(fd, 4096)
        except OSError:
            data = b""
        if not data:
            self.drop()
        return data, False

    def write(self, data):
        self.backlog = (self.backlog + data)[-BACKLOG_BYTES:]
        if self.client:
            write_some(self.client.fileno(), data)

    def close(self):
        if self.client:
            self.client.close()
        self.listener.close()
        os.unlink(self.path)


def open_console(spec):
    if spec == "stdio":
        return Stdio()
    if spec == "pty":
        return Pty()
    if spec.startswith("unix:") and spec[5:]:
        return Unix(spec[5:])
    raise LaunchError(f"--console {spec}: use stdio, pty or unix:PATH")


class Session:
    """Carries bytes between the machine and the console until the machine ends."""

    def __init__(self, serial, console, transcript=None):
        self.serial, self.console, self.transcript = serial, console, transcript
        self.to_machine = b""
        self.tail = b""

    def pump_out(self):
        """Machine to console. False when there was nothing."""
        try:
            data = os.read(self.serial, 65536)
        except OSError:
            return False
        self.tail = (self.tail + data)[-4096:]
        if self.transcript:
            self.transcript.write(data)
            self.transcript.flush()
        self.console.write(data)
        return bool(data)

    def run(self, process, deadline):
        """"exit", "user" or "timeout"."""
        gone = os.pidfd_open(process.pid)
        try:
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return "timeout"
                readers = [self.serial, gone, *self.console.readers]
                writers = [self.serial] if self.to_machine else []
                ready, _, _ = select.select(readers, writers, [], left)
                if self.serial in ready:
                    self.pump_out()
                for fd in [f for f in self.console.readers if f in ready]:
                    data, end = self.console.read(fd)
                    self.to_machine += data
                    if end:
                        return "user"
                if self.to_machine:
                    self.to_machine = write_some(self.serial, self.to_machine)
                if gone in ready:
                    while self.pump_out():
                        pass
                    return "exit"
        finally:
            os.close(gone)

    def exit_code(self):
        """The code that the machine said it ends with; None if it ended without a word."""
        found = LAST_WORDS.search(self.tail)
        return int(found.group(1)) if found else None


def end_on_signals():
    """SIGTERM and SIGHUP unwind like Ctrl-C does, so that everything is cleaned up."""
    def stop(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)


def say(text):
    """A line of the launcher's own, also right on a raw terminal."""
    sys.stderr.write("boot/run: " + text.replace("\n", "\r\n") + "\r\n")
    sys.stderr.flush()
