"""Fixtures for the system tests. Each test file boots its own machine, shared by its tests:

    CONFIG = "demo"            # or a path, or .dts text; also CPU_MODEL, MEMORY, CPUS
    BACKENDS = ("vmx",)        # if it is not for both (tests/run.py runs a file once for each)

    def test_list(machine):
        assert "vm0" in machine.cmd("list")
"""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import FLAVOUR, OUT, Machine  # noqa: E402


@pytest.fixture(scope="module")
def machine(request):
    """Booted to the prompt with the file's CONFIG; ended when its last test is done."""
    module = request.module
    name = f"{module.__name__}-{FLAVOUR}"
    (OUT / f"{name}.log").unlink(missing_ok=True)
    m = Machine(name)
    try:
        m.boot(config=getattr(module, "CONFIG", "demo"), cpu_model=getattr(module, "CPU_MODEL", None), memory=getattr(module, "MEMORY", "256M"),
               cpus=getattr(module, "CPUS", None))
        yield m
    finally:
        m.close()


@pytest.fixture
def own_machine(request):
    """A machine of the test's own, not started: for tests that end it or boot it differently."""
    name = f"{request.node.name}-{FLAVOUR}"
    (OUT / f"{name}.log").unlink(missing_ok=True)
    m = Machine(name)
    yield m
    m.close()


@pytest.fixture(autouse=True)
def mark_in_transcript(request):
    """The transcript says which test wrote what."""
    m = request.node.funcargs.get("machine")
    if m and m.log:
        m.log.write(f"\n==== {request.node.name}\n")
    yield
