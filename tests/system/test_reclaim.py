"""A cut of the table that `make soak` runs (mix.py): guests whose memory sums to more than the pool, with drivers that
cooperate, lie, dawdle, grab back or are not there; all verify, nobody dies, each target arrives."""
import pytest
from machine import BACKEND, CPUS, FLAVOUR, Machine
from mix import Cell

SEVERAL_CPUS = True
CELLS = {"svm": (("2", "mixed", 12), ("3", "absent", 8)), "vmx": (("1.3", "mixed", 5),)}
PAST_DEADLINE_MS = 2500  # beside another emulator on the same two cores


@pytest.mark.parametrize("ratio,manner,steps", CELLS[BACKEND])
def test_mix(ratio, manner, steps):
    cell = Cell(ratio, manner, seed=1, small=BACKEND == "vmx", make_machine=lambda name: Machine(f"{name}-{FLAVOUR}"))
    cell.run(0, steps, cpus=CPUS)
    print(cell.row(), sorted(cell.took))
    assert cell.good(), cell.text()
    assert max(cell.late, default=0) <= PAST_DEADLINE_MS, f"past the deadline by {sorted(cell.late)} ms"
    assert all(cell.rungs[rung] for rung in ("zero", "compress")), cell.rungs
