"""The same guests on processors with fewer virtualisation features: each fallback carries them. ryzen is
SVM with what QEMU's lacks: NRIPS, flush by ASID."""
import pytest
from hogs import hogs, wait_for

BACKENDS = ("vmx",)  # it chooses the models itself
ONE_MACHINE = True  # it chooses its processors itself, or never gets as far as using several
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "24M";
	disk { index = <1>; };
	guests {
		vm {
			count = <3>; memory = "16M"; min = "4M"; kernel = "guest.elf"; disk = "32M";
			cmdline = "tests run=hog:10M";
		};
	};
};
"""


@pytest.mark.parametrize("model", ["corei7_skylake_x", "corei7_haswell_4770", "corei7_ivy_bridge_3770k",
                                   "ryzen"])
def test_overcommit_on(own_machine, model):
    """Three guests want 30 MiB of 24: all page, all verify."""
    m = own_machine.boot(config=CONFIG, emulator="bochs", cpu_model=model, timeout=600)
    for name in ("vm0", "vm1", "vm2"):
        wait_for(f"{name} verified all its memory", lambda g=name: hogs(m, g)[0][1] >= 1, 240)
        assert hogs(m, name)[0][2] == 0, f"{name} found errors"
    text = m.guest_shell("vm1", "evil addresses", 120)
    assert "PASS evil addresses" in text, text
    m.audit()
    m.shutdown()
