"""Each console command, each kind of bad input, JSON, editing and completion over the serial line."""
import re

import pytest
from hogs import rows, wait_for
from machine import BACKEND

CONFIG = """
/dts-v1/;
/ {
	compatible = "aerostat,config-1";
	pool = "48M";
	debug;
	disk { index = <1>; };
	guests {
		vm {
			count = <3>;
			memory = "8M";
			min = "2M";
			kernel = "guest.elf";
			disk = "8M";
			cmdline = "tests";
		};
		late {
			noauto;
			memory = "8M";
			min = "4M";
			kernel = "guest.elf";
		};
	};
};
"""


def test_help_lists_every_command(machine):
    text = machine.cmd("help")
    assert [line for line in text.splitlines() if len(line) > 79] == []
    for name in ("list info stats balloon vcpu-list vcpu-pin cpus sched mem-set mem-max mem-audit pause unpause create destroy console dmesg "
                 "uptime shutdown reboot help").split():
        assert re.search(rf"^  {name}\b", text, re.M), name
        assert machine.cmd(f"help {name}").startswith(name)


def test_listing_in_xls_columns(machine):
    lines = machine.cmd("list").splitlines()
    assert lines[0].split() == "Name ID Mem VCPUs State Time(s) Target Balloon Used".split()
    assert [line.split()[0] for line in lines[1:]] == ["vm0", "vm1", "vm2", "total"]
    assert all(re.fullmatch(r"[r-][b-][p-][s-][c-][d-]", line.split()[4]) for line in lines[1:-1])
    assert machine.cmd("list vm1").splitlines()[1].startswith("vm1")


@pytest.mark.parametrize("command", ["list", "list vm0", "info", "stats", "stats vm1", "balloon", "balloon vm2",
                                     "mem-audit", "uptime", "cpus", "vcpu-list", "vcpu-list vm0", "sched", "disks",
                                     "mem-why vm0", "mem-why all", "mem-state", "dmesg"])
def test_json_is_one_object_on_one_line(machine, command):
    text = machine.cmd(f"{command} -j")
    assert text.startswith("{") and text.endswith("}") and "\n" not in text
    assert machine.cmd_json(command)


def test_json_agrees_with_the_listing(machine):
    """While guests run, a page may come between two commands: they are stopped, and what still moves comes to rest."""
    for guest in ("vm0", "vm1", "vm2"):
        machine.cmd(f"pause {guest}")

    def agree():
        guests, info = machine.cmd_json("list")["guests"], machine.cmd_json("info")
        assert [g["name"] for g in guests] == ["vm0", "vm1", "vm2"]
        assert all(g["memory_pages"] == 2048 and g["size_pages"] == g["memory_pages"] - g["balloon_pages"]
                   for g in guests)
        assert info["pool_pages"] == 48 * 256
        return info["pool_used_pages"] == sum(g["used_pages"] for g in guests)
    wait_for("used memory is the sum of the guests'", agree, 30)
    for guest in ("vm0", "vm1", "vm2"):
        machine.cmd(f"unpause {guest}")


@pytest.mark.parametrize("line, answer", [
    ("lst", 'unknown command "lst"; did you mean "list"?'),
    ("list vm12", 'no guest "vm12"; guests are vm0 .. vm2 (`list`)'),
    ("mem-why", "mem-why: too few words; use: mem-why GUEST|all [-j]"),
    ("sched vm0 none", 'sched: cpu-shares "none"; 1 to 100000'),
    ("pause vm0", "pause: it takes no -j; use: pause GUEST"),
    ("create x like=vm0", "create: it takes no -j; use: create NAME "
     "[like=NAME] [memory= min= max= shares= disk= cmdline=]"),
])
def test_with_j_a_mistake_is_an_object_too(machine, line, answer):
    assert machine.cmd_json(line) == {"error": answer}


def test_mem_why_all_is_a_line_a_guest(machine):
    head, *lines = machine.cmd("mem-why all").splitlines()
    assert head.split() == "Name Mem-set Should Holds Reached Because".split()
    assert [line.split()[:2] for line in lines] == [[f"vm{n}", "8M"] for n in range(3)]
    guests = machine.cmd_json("mem-why all")["guests"]
    assert [g["name"] for g in guests] == ["vm0", "vm1", "vm2"]
    assert guests[1].keys() == machine.cmd_json("mem-why vm1").keys()


@pytest.mark.parametrize("line, answer", [
    ("lst", 'unknown command "lst"; did you mean "list"?'),
    ("xyzzy", 'unknown command "xyzzy"; `help` lists them'),
    ("list vm12", 'no guest "vm12"; guests are vm0 .. vm2'),
    ("pause", "pause: too few words; use: pause GUEST"),
    ("pause vm0 vm1", "pause: too many words; use: pause GUEST"),
    ("list -x", "list: no such option"),
    ("mem-set vm0", "mem-set: too few words"),
    ("mem-set vm0 lots", '"lots" is not a size; write 16M'),
    ("mem-set vm0 99999999T", '"99999999T" is too large'),
    ("mem-set vm0 3b", "less than a page"),
    ("mem-set vm9 4M", 'no guest "vm9"'),
    ("mem-max vm0 1M", "mem-max: vm0 takes 2M (its min) to 8M (its memory)"),
    ("unpause vm0", "vm0 is running, not paused"),
    ("create nosuch", 'no guest "nosuch" here or in the configuration; add like=vm0'),
    ("create vm0", "vm0"),
    ("create 9lives like=vm0", "a name is letters"),
    ("create all like=vm0", "not \"all\""),
    ("create x like=vm0 memory=3M", "memory is 3M; should be 4M to 64G"),
    ("create x like=vm0 colour=red", 'unknown "colour="'),
    ("xl list", 'unknown command "xl"; type what follows it'),
    ("exit", 'did you mean "shutdown"?'),
    ("create x like=vm0 mem=8M", 'unknown "mem="; did you mean "memory="?'),
    ("create x like=vm0 min=2M min=4M", '"min=4M" is given twice'),
    ("create x like=vm0 shares=0", "shares=0; 1 to 100000"),
    ("create x like=vm0 max=6M min=7M", "min is 7M, more than max, 6M"),
    ("create x like=vm0 max=12M", "max is 12M, more than memory, 8M"),
    ("destroy ghost", 'no guest "ghost"'),
    ("console ghost", 'no guest "ghost"'),
    ("debug wash", 'debug: unknown "wash"'),
    ('list "vm0', 'a quote (") has no end'),
    ("a b c d e f g h i j k l m n o p q r", "too many words"),
    ("help me", 'unknown command "me"'),
])
def test_bad_input_gets_one_clear_line(machine, line, answer):
    text = machine.cmd(line)
    assert text.startswith("error: ") and "\n" not in text, text
    assert answer in text


def test_empty_and_blank_lines_do_nothing(machine):
    assert machine.cmd("") == ""
    assert machine.cmd("    ") == ""


def test_pause_and_unpause(machine):
    assert machine.cmd("pause vm1") == ""
    assert machine.cmd_json("list vm1")["guests"][0]["letters"] == "--p---"
    assert machine.cmd("pause vm1").startswith("error: vm1 is paused")
    assert machine.cmd("unpause vm1") == ""
    assert machine.cmd_json("list vm1")["guests"][0]["letters"] in ("r-----", "-b----")
    assert "KiB" in machine.guest_shell("vm1", "free")


def test_admission_says_the_numbers(machine):
    text = machine.cmd("create big like=vm0 memory=64M min=60M")
    assert text.startswith("error: ") and "60M" in text and "\n" not in text, text
    assert len(machine.cmd_json("list")["guests"]) == 3


def test_create_like_another_and_destroy(machine):
    for guest in ("vm0", "vm1", "vm2"):  # they take no page meanwhile
        machine.cmd(f"pause {guest}")
    before = machine.cmd_json("info")["pool_free_pages"]
    assert re.match(r"late: id \d+", machine.cmd("create late"))
    assert re.match(r"twin: id \d+", machine.cmd("create twin like=vm0 memory=4M min=2M cmdline=tests"))
    assert "KiB" in machine.guest_shell("twin", "free")
    assert machine.cmd_json("list twin")["guests"][0]["memory_pages"] == 1024
    assert machine.cmd("create twin like=vm0").startswith("error: ")
    machine.audit()
    assert machine.cmd("destroy twin") == ""
    assert machine.cmd("destroy late") == ""
    assert machine.cmd("list twin").startswith("error: no guest")
    wait_for("all its memory is free", lambda: machine.cmd_json("info")["pool_free_pages"] >= before, 30)
    for guest in ("vm0", "vm1", "vm2"):
        machine.cmd(f"unpause {guest}")
    machine.audit()


def test_mem_max_bounds_what_a_guest_holds(machine):
    assert "never more than 6M" in machine.cmd("mem-max vm2 6M")
    wait_for("the balloon takes what it may never hold",  # its page tables count, too
             lambda: 1024 < rows(machine)["vm2"]["size_pages"] <= 1536 + 8, 30)
    assert "never more than 8M" in machine.cmd("mem-max vm2 8M")


def test_bare_numbers_are_kib_as_in_xl(machine):
    assert machine.cmd("mem-set vm2 6144") == "vm2: 6M"
    assert machine.cmd("mem-set vm2 8m") == "vm2: 8M"


def test_below_min_is_clipped_and_said(machine):
    assert machine.cmd("mem-set vm2 64K") == "vm2: 2M (its min; 64K was asked)"
    assert machine.cmd("mem-set vm2 99M") == "vm2: 8M (all it has; 99M was asked)"


def test_console_shows_the_guest_and_comes_back(machine):
    text = machine.guest_shell("vm0", "echo hello there")
    assert "hello there" in text
    assert machine.cmd("uptime").startswith("up ")


def test_dmesg_tells_how_it_started(machine):
    text = machine.cmd("dmesg")
    assert {"vmx": "VMX+EPT", "svm": "SVM+NPT"}[BACKEND] in text and "3 guests with 24M of memory in all" in text


def test_compression_works_here(machine):
    """Bytes and guests' vector registers: looked at when it started, and now, with guests that have run."""
    assert "compression: LZ4, checked" in machine.cmd("dmesg")
    lines = machine.cmd("debug compress").splitlines()
    assert len(lines) == 4 and re.fullmatch(r"words +\d+ bytes, compressed in \d+ ticks, back in \d+", lines[0])
    assert re.fullmatch(r"random +does not pay, found in \d+ ticks", lines[3])


def test_debug_scrub(machine):
    assert re.fullmatch(r"\d+ frames scrubbed", machine.cmd("debug scrub"))


@pytest.mark.parametrize("keys, line", [
    ("zzyx\x7f\x7fzz", "zzzz"),
    ("bc\x01\x01a\x05d", "abcd"),  # boot/run takes Ctrl-A: twice sends one
    ("ac\x1b[Db\x1b[C", "abc"),
    ("xabc\x1b[H\x1b[3~", "abc"),
    ("abcx\x1b[D\x0b", "abc"),
    ("junk \x15abc", "abc"),
    ("abc junk\x17\x7f", "abc"),
    ("abc\x1b[1;5Cd", "abcd"),
])
def test_line_editing(machine, keys, line):
    assert f'unknown command "{line}"' in machine.cmd(keys)


def test_history(machine):
    machine.cmd("qqq1")
    machine.cmd("qqq2")
    assert 'unknown command "qqq1"' in machine.cmd("\x1b[A\x1b[A")
    assert 'unknown command "qqq9"' in machine.cmd("qqq9\x1b[A\x1b[B")


def test_control_c_drops_the_line(machine):
    assert "aerostat> list everything^C" in machine.type("list everything\x03")
    assert machine.cmd("uptime").startswith("up ")


def test_completion(machine):
    assert "up " in machine.cmd("upt\t")
    assert "vm1" in machine.cmd("list v\t1")
    machine.child.send("mem-\t")
    machine.wait("mem-set  mem-max  mem-why  mem-state  mem-audit  \r\naerostat> mem-", exact=True)
    assert "vm0: 8M" in machine.cmd("\x15mem-set vm0 8M")


@pytest.mark.parametrize("keys, words", [
    ("mem-set ", "vm0  vm1  vm2  all"),
    ("swap o", "on  off"),
    ("disk-fault 1 ", "read  write  corrupt  delay  off"),
    ("driver-fault vm0 ", "dead  off"),
    ("create x m", "memory=  min=  max="),
    ("create x like=", "vm0  vm1  vm2  late"),
])
def test_tab_lists_what_may_stand_there(machine, keys, words):
    assert words in [text.strip() for text in machine.type(keys + "\t\x15")]


def test_audit_last(machine):
    machine.audit()
    assert "aerostat: exit 0" in machine.shutdown()
