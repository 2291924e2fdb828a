"""lvs restore, as typed: tables of ipvsadm come back as ipvsadm saved them, whole or not at all."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_common.virtual_server import VirtualServer
from lab.site import VIP
from tests.director.ipvs_samples import virtual_servers
from tests.lab import ipvsadm
from tests.lab.operator import Operator
from tests.lab.test_ipvs_adapter import apart, groups

ONE_SIXTH = True

NAME = f"{VIP}:80"


def saved(operator: Operator) -> list[str]:
    """What ipvsadm-save -n prints, in an order of its own."""
    return sorted(line.rstrip() for line in operator.site.director.out("ipvsadm", "-S", "-n").splitlines())


@pytest.fixture
def cleared(operator: Operator) -> Iterator[Operator]:
    """An empty table, before and after."""
    assert saved(operator) == []
    yield operator
    operator.lvs("restore", "--replace", "/dev/null")
    assert saved(operator) == []


@pytest.fixture
def rules(tmp_path: Path) -> Iterator[Path]:
    """A file for rules."""
    yield tmp_path / "rules"


def every_rule() -> list[str]:
    """Rules that between them have every value of every option, but what ipvsadm's own -R cannot read."""
    found = []
    for server in apart(virtual_servers()):
        line = ipvsadm.add_virtual_server(server)
        if server.key not in groups() and line == ipvsadm.saved_virtual_server(server):
            found.append(line)
    for key, wanted in groups().items():
        found.append(ipvsadm.add_virtual_server(VirtualServer(key=key)))
        found += [ipvsadm.saved_destination(key, each) for each in wanted]
    return found


def test_a_table_of_ipvsadm_comes_back_byte_for_byte(cleared: Operator, rules: Path) -> None:
    director = cleared.site.director
    director.run("ipvsadm", "-R", input="".join(f"{line}\n" for line in every_rule()))
    before = director.out("ipvsadm", "-S", "-n")
    assert len(before.splitlines()) > 150
    rules.write_text(cleared.lvs("save").stdout)
    assert rules.read_text() == director.run("ipvsadm", "-S", "-n").stdout
    director.run("ipvsadm", "-C")
    cleared.lvs("restore", str(rules))
    assert director.out("ipvsadm", "-S", "-n") == before
    assert "nothing to do" in cleared.lvs("restore", str(rules)).stdout
    assert "nothing to do" in cleared.lvs("restore", "--replace", str(rules)).stdout


def test_json_keeps_what_rules_cannot_say(cleared: Operator, rules: Path) -> None:
    """Thresholds, and the weight that waits for the end of a drain."""
    lvs, key = cleared.lvs, f"tcp/{NAME}"
    lvs("service", "add", key, "--scheduler", "rr")
    lvs("destination", "add", key, "192.168.0.104", "--weight", "5", "--upper-threshold", "9", "--lower-threshold", "3")
    lvs("destination", "add", key, "192.168.0.105", "--weight", "7")
    assert cleared.weigh(NAME, ["192.168.0.105"], draining=True).status == 0
    said = lvs("save").stderr
    assert "destinations that have thresholds, which these rules cannot say: 1" in said
    assert "destinations that drain, which these rules cannot say: 1" in said
    rules.write_text(lvs("save", "--output", "json").stdout)
    thresholds = cleared.site.director.out("ipvsadm", "-Ln", "--thresholds")
    lvs("restore", "--replace", "/dev/null")
    lvs("restore", str(rules))
    assert cleared.site.director.out("ipvsadm", "-Ln", "--thresholds") == thresholds
    assert cleared.weigh(NAME, ["192.168.0.105"], draining=False).status == 0
    assert f"-a -t {NAME} -r 192.168.0.105:80 -g -w 7" in saved(cleared)


ODD = f"""\
-A -t 127.0.0.1:80 -s rr
-a -t 127.0.0.1:80 -r 192.168.0.104:80 -g -w 1
-A -t {NAME} -s rr
-a -t {NAME} -r 127.0.0.1:80 -g -w 1
-a -t {NAME} -r {NAME} -g -w 1
-A -t {VIP}:81 -s rr -p 60 --pe sip
-A -t {VIP}:82 -s rr -p
ipvsadm -A -t {VIP}:83 -s rr
-a -t {VIP}:83 -r 192.168.0.104 -m -x 2147483647 -y 65536
"""


def test_what_ipvsadm_takes_though_it_is_odd_is_taken_too_and_removed_again(cleared: Operator) -> None:
    director = cleared.site.director
    director.run("ipvsadm", "-R", input=ODD)
    before = (director.out("ipvsadm", "-S", "-n"), director.out("ipvsadm", "-Ln", "--thresholds"))
    assert len(before[0].splitlines()) == 9
    director.run("ipvsadm", "-C")
    director.run("lvs", "--insecure", "restore", input=ODD)
    assert (director.out("ipvsadm", "-S", "-n"), director.out("ipvsadm", "-Ln", "--thresholds")) == before
    cleared.lvs("destination", "edit", f"tcp/{VIP}:83", "192.168.0.104", "--weight", "3")
    cleared.lvs("destination", "remove", f"tcp/{NAME}", "127.0.0.1")
    cleared.lvs("service", "remove", "tcp/127.0.0.1:80", "--force")
    cleared.lvs("flush", "--yes")
    assert director.out("ipvsadm", "-S", "-n") == ""


def test_bad_lines_are_all_told_and_nothing_is_changed(cleared: Operator, rules: Path) -> None:
    rules.write_text(f"-A -t {NAME} -s rr\n-a -t {NAME} -r web1:80 -g\n-A -t {NAME} -s nosuch\n")
    said = cleared.lvs("restore", str(rules), status=2).stderr.splitlines()
    assert said[0].startswith("lvs: line 2: -r: 'web1' is not an IPv4 or IPv6 address: -a -t")
    assert said[1].startswith("lvs: line 3: scheduler: 'nosuch' is unknown")
    assert said[-1] == "lvs: rules: 2 bad lines; nothing was changed"
    assert saved(cleared) == []


def test_what_the_kernel_refuses_leaves_the_table_as_it_was(cleared: Operator, rules: Path) -> None:
    """No scheduler twos in Linux 6.1: all that came before it in the same send is taken back."""
    cleared.site.director.run("ipvsadm", "-A", "-t", NAME, "-s", "rr")
    cleared.site.director.run("ipvsadm", "-a", "-t", NAME, "-r", "192.168.0.104", "-g", "-w", "5")
    before = saved(cleared)
    rules.write_text(
        f"-A -t {NAME} -s wrr\n-a -t {NAME} -r 192.168.0.105 -g\n"
        f"-A -u {NAME} -s twos\n-a -u {NAME} -r 192.168.0.104 -g\n"
    )
    said = cleared.lvs("restore", "--replace", str(rules), status=10).stderr
    assert "scheduler twos" in said
    assert saved(cleared) == before


def test_replacing_does_the_least(cleared: Operator, rules: Path) -> None:
    """And with --dry-run nothing: it shows what would be done."""
    director = cleared.site.director
    director.run("ipvsadm", "-A", "-t", NAME, "-s", "rr")
    for number in (104, 105):
        director.run("ipvsadm", "-a", "-t", NAME, "-r", f"192.168.0.{number}", "-g")
    director.run("ipvsadm", "-A", "-f", "7", "-s", "rr")
    wanted = f"-A -t {NAME} -s rr\n-a -t {NAME} -r 192.168.0.104:80 -g -w 1\n-a -t {NAME} -r 192.168.0.106:80 -g -w 2\n"
    rules.write_text(wanted)
    before = saved(cleared)
    said = cleared.lvs("restore", "--replace", "--dry-run", str(rules)).stdout
    assert re.findall(r"(?:add|remove|adopt|edit): .*", said) == [
        f"add: -a -t {NAME} -r 192.168.0.106:80 -g -w 2",
        f"remove: -a -t {NAME} -r 192.168.0.105:80 -g -w 1",
        "remove: -A -f 7 -s rr",
        f"adopt: -A -t {NAME} -s rr",
        f"adopt: -a -t {NAME} -r 192.168.0.104:80 -g -w 1",
    ]
    assert saved(cleared) == before
    cleared.lvs("restore", "--replace", str(rules))
    assert director.out("ipvsadm", "-S", "-n") == wanted.strip()
    for _ in range(30):  # what the last two looks have found may be from before
        drift = cleared.lvs("drift", status=14).stdout  # no real server has that address
        if "nothing differs" in drift:
            break
        time.sleep(1)
    assert "nothing differs" in drift


def test_rules_come_from_standard_input_and_a_port_is_told(cleared: Operator) -> None:
    line = f"-A -t {NAME} -s rr\n-a -t {NAME} -r 192.168.0.104:8080 -g\n"
    done = cleared.site.director.run("lvs", "--insecure", "restore", input=line)
    assert "line 2: 192.168.0.104:8080 gets port 80: dr and tun translate none" in done.stderr
    assert "the real servers are not asked" in done.stderr
    heavier = cleared.site.director.run("lvs", "--insecure", "restore", input=f"-A -t {NAME} -s wrr\n", check=False)
    assert heavier.returncode == 13
    assert "or replace the table (lvs restore --replace)" in heavier.stderr
    assert saved(cleared) == [f"-A -t {NAME} -s rr", f"-a -t {NAME} -r 192.168.0.104:80 -g -w 1"]
