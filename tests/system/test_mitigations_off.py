"""`mitigations = "off"`: nothing is done, and said so."""
SEVERAL_CPUS = True
CONFIG = """/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "60M";
	mitigations = "off";
	disk { index = <1>; };
	guests {
		big { memory = "32M"; min = "8M"; kernel = "guest.elf"; huge; cmdline = "tests"; };
	};
};
"""


def test_off_is_off(machine):
    assert machine.cmd_json("info")["mitigations"].startswith("off; needed, not done: ibpb ")
    assert machine.guest_shell("big", "free")  # its code has run, from a 2 MiB leaf
    stats = machine.cmd_json("stats big")
    assert stats["faults"]["populate_2m"] > 0
    assert stats["faults"]["fault_exec_2m"] == 0
    machine.audit()
