"""lvs list, connections, zero and flush beside what ipvsadm shows of the same table."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent_common.virtual_server import VirtualServer
from lab.site import VIP, VIP6
from lab.traffic import ask_http
from tests.director.ipvs_samples import virtual_servers
from tests.lab import ipvsadm
from tests.lab.operator import Operator
from tests.lab.test_ipvs_adapter import apart, groups

ONE_SIXTH = True

PORTS = itertools.count(8300)
"""A connection outlives its test; with a port of its own each test sees only those that it made."""

COUNTED_SECONDS = 2.5
"""The kernel works out its counters every two."""

VIEWS = ("--stats", "--rate", "--thresholds", "--persistent", "--tunnels")
THEIRS = {"--persistent": "--persistent-conn", "--tunnels": "--tun-info"}
"""What ipvsadm calls a view that has another name with us."""


@pytest.fixture
def cleared(operator: Operator) -> Iterator[Operator]:
    """An empty table, before and after."""
    director = operator.site.director
    assert director.out("ipvsadm", "-S") == ""
    yield operator
    operator.lvs("flush", "--yes")
    assert director.out("ipvsadm", "-S") == ""


@pytest.fixture
def filled(cleared: Operator) -> Operator:
    """Virtual servers and destinations with every value of every option, made by ipvsadm."""
    lines = [ipvsadm.add_virtual_server(server) for server in apart(virtual_servers())]
    for key, wanted in groups().items():
        if not any(line.startswith(ipvsadm.add_virtual_server(VirtualServer(key=key))[:-4]) for line in lines):
            lines.append(ipvsadm.add_virtual_server(VirtualServer(key=key)))
        lines += [ipvsadm.add_destination(key, replace(each, draining=False)) for each in wanted]
    cleared.site.director.run("ipvsadm", "-R", input="".join(f"{line}\n" for line in lines))
    return cleared


@pytest.fixture
def asked(cleared: Operator) -> Iterator[int]:
    """A virtual server of each family on this port, which four connections have come through; one is persistent."""
    site, port = cleared.site, next(PORTS)
    servers = [site.serve_http(rs, port, address="::") for rs in site.real_servers]
    for family in (4, 6):
        assert cleared.add(cleared.vip(family, port), cleared.rs(family), scheduler="rr").status == 0
    cleared.lvs("service", "edit", f"tcp/{VIP}:{port}", "--persistent", "300")
    for address in (VIP, VIP6):
        for _ in range(4):
            assert ask_http(site.client, address, port) in ("rs1", "rs2")
    time.sleep(COUNTED_SECONDS)
    yield port
    for family in (4, 6):
        vip = cleared.vip(family, port)
        assert cleared.remove(vip, cleared.rs(family), prune=True, drain_timeout=None).status == 0
    for server in servers:
        server.stop()


def test_every_view_is_ipvsadms_to_the_byte(filled: Operator) -> None:
    director = filled.site.director
    for view in ([], *([each] for each in VIEWS)):
        theirs = director.run("ipvsadm", "-Ln", *(THEIRS.get(each, each) for each in view)).stdout
        assert len(theirs.splitlines()) > 150
        assert without_flag_3(filled.lvs("list", *view).stdout) == with_large_marks(theirs)


def with_large_marks(text: str) -> str:
    """What ipvsadm should print: a mark from 2147483648 on is negative with it."""

    def positive(cell: re.Match[str]) -> str:
        mark = str(int(cell[1]) + 2**32)
        return mark + cell[2] if len(cell[2]) == 1 else mark.ljust(len(cell[0]))

    return re.sub(r"(?<=^FWM  )(-\d+)( +)", positive, text, flags=re.MULTILINE)


def without_flag_3(text: str) -> str:
    """What ipvsadm prints: with sh and mh it knows no flag-3, and leaves its place empty."""
    return re.sub(r"(?<= [sm]h \()(.*?),?flag-3\)", r"\1)", text)


def test_one_virtual_server_is_ipvsadms_too(filled: Operator) -> None:
    key = next(iter(groups()))
    option = ipvsadm.add_virtual_server(VirtualServer(key=key)).split()[1:3]
    assert filled.lvs("list", str(key)).stdout == filled.site.director.run("ipvsadm", "-Ln", *option).stdout


def test_counters_and_rates_are_ipvsadms(operator: Operator, asked: int) -> None:
    director = operator.site.director
    for view in (["--stats"], ["--rate"], ["--stats", "--exact"]):
        ours, theirs = "", ["", "different"]
        while theirs[0] != theirs[1]:  # rates change from one reading to the next, for half a minute at most
            theirs[0] = director.run("ipvsadm", "-Ln", *view).stdout
            ours = operator.lvs("list", *view).stdout
            theirs[1] = director.run("ipvsadm", "-Ln", *view).stdout
        assert ours == theirs[0]
        if "--stats" in view:
            assert re.search(rf"{VIP}:{asked} +4 ", ours)


def test_connections_are_ipvsadms(operator: Operator, asked: int) -> None:
    """But for their last seconds, which run down between the two readings."""

    def untimed(text: str) -> list[str]:
        return sorted(re.sub(r"\d\d:\d\d", "--:--", text).splitlines())

    director = operator.site.director
    theirs, ours = director.run("ipvsadm", "-Lcn").stdout, operator.lvs("connections").stdout
    assert untimed(ours) == untimed(theirs)
    assert ours.splitlines()[:2] == theirs.splitlines()[:2]
    assert len([line for line in ours.splitlines() if f"{VIP}:{asked}" in line and " FIN_WAIT " in line]) == 4
    some = operator.lvs("connections", "--vip", f"[{VIP6}]:{asked}", "--limit", "3")
    assert [f"[{VIP6}]:{asked}" in line for line in some.stdout.splitlines()[2:]] == [True] * 3
    assert "only the first 3 are shown" in some.stderr
    document = operator.lvs_json("connections", "--vip", VIP, "--state", "assured")["agents"][0]["answer"]
    assert {each["client_port"] for each in document["connections"]} == {0}


def test_zero_begins_anew(operator: Operator, asked: int) -> None:
    director = operator.site.director
    operator.lvs("zero", f"tcp/{VIP}:{asked}")
    counted = {line.split()[1]: line.split()[2] for line in director.out("ipvsadm", "-Ln", "--stats").splitlines()[3:]}
    assert (counted[f"{VIP}:{asked}"], counted[f"[{VIP6}]:{asked}"]) == ("0", "4")
    operator.lvs("zero")
    rows = [line.split()[2:7] for line in director.out("ipvsadm", "-Ln", "--stats").splitlines()[3:]]
    assert set(map(tuple, rows)) == {("0",) * 5}
    assert "there is no virtual server" in operator.lvs("zero", "fwmark/99", status=13).stderr


def test_names_are_looked_up_only_when_asked(cleared: Operator) -> None:
    director = cleared.site.director
    director.run("ipvsadm", "-A", "-t", "127.0.0.1:80", "-s", "rr")
    director.run("ipvsadm", "-A", "-u", "192.0.2.1:53", "-s", "rr")
    assert cleared.lvs("list", "--names").stdout == director.run("ipvsadm", "-L").stdout
    assert "localhost:http" in cleared.lvs("list", "--names").stdout
    assert "127.0.0.1:80" in cleared.lvs("list").stdout


def test_an_address_that_nobody_should_serve_is_listed_all_the_same(cleared: Operator) -> None:
    """The kernel takes an IPv4-mapped address as a VIP, and one with IPv4 at its end: both are shown as by ipvsadm."""
    director = cleared.site.director
    for address in ("::ffff:192.0.2.1", "::192.0.2.1"):
        director.run("ipvsadm", "-A", "-t", f"[{address}]:80", "-s", "rr")
    assert cleared.lvs("list").stdout == director.run("ipvsadm", "-Ln").stdout
    assert cleared.lvs("save").stdout == director.run("ipvsadm", "-Sn").stdout
    assert cleared.lvs("status").stdout.count("192.0.2.1]:80") == 2
    cleared.lvs("service", "remove", "tcp/[::ffff:192.0.2.1]:80", "--force")
    assert "cannot" not in cleared.lvs("flush", "--yes").stderr


def test_flush_asks_and_empties_the_table(filled: Operator) -> None:
    director = filled.site.director
    before = director.out("ipvsadm", "-S", "-n")
    assert "nobody can be asked here" in filled.lvs("flush", status=2).stderr
    assert "remove" in filled.lvs("flush", "--dry-run").stdout
    assert director.out("ipvsadm", "-S", "-n") == before
    filled.lvs("flush", "--yes")
    assert director.out("ipvsadm", "-S", "-n") == ""
    assert "nothing to do" in filled.lvs("flush", "--yes").stdout
