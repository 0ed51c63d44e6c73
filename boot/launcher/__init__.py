"""The parts of boot/run: disk images, emulators, and the serial console."""


class LaunchError(Exception):
    """What the user has to know: one sentence that says what is wrong and what to do."""
