"""add-backend with tunnels: the real server's end is set up, clients are answered through it, and it is undone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from agent_common.destination import Forwarding, Tunnel, TunnelChecksum, TunnelType
from cli.outcome import Outcome
from lab.host import Host
from lab.process import Process
from lab.site import VIP
from tests.lab.health_site import weights
from tests.lab.operator import Operator, told

WEB = 8085
GUE_PORT = 6080
OFTEN = ("--interval", "0.5", "--check-timeout", "0.4")
ONE_EACH = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnelled:
    """A tunnel, the family of the VIP, and that of the real server."""

    tunnel: Tunnel
    inner: int
    outer: int

    def __str__(self) -> str:
        checksum = "" if self.tunnel.checksum is TunnelChecksum.NONE else f"-{self.tunnel.checksum.name.lower()}"
        return f"{self.tunnel.type.name.lower()}{checksum}-ipv{self.inner}-in-ipv{self.outer}"


TUNNELS = (
    Tunnel(),
    Tunnel(type=TunnelType.GRE),
    *(Tunnel(type=TunnelType.GUE, port=GUE_PORT, checksum=checksum) for checksum in TunnelChecksum),
)
CASES = [
    Tunnelled(tunnel=tunnel, inner=inner, outer=outer) for tunnel in TUNNELS for inner in (4, 6) for outer in (4, 6)
]


@pytest.fixture(scope="module")
def fou() -> None:
    """GUE's module, which the kernel does not load by itself."""
    subprocess.run(["modprobe", "-a", "fou"], check=True)


@pytest.fixture
def web(operator: Operator, fou: None) -> Iterator[Process]:
    """A web server on both real servers."""
    servers = [operator.site.serve_http(rs, WEB, address="::") for rs in operator.site.real_servers]
    yield servers[0]
    for server in servers:
        server.stop()


def add(operator: Operator, case: Tunnelled) -> Outcome:
    rs = operator.rs(case.outer)[:1]
    return operator.add(operator.vip(case.inner, WEB), rs, forwarding=Forwarding.TUNNELING, tunnel=case.tunnel)


def remove(operator: Operator, case: Tunnelled) -> None:
    outcome = operator.remove(
        operator.vip(case.inner, WEB), operator.rs(case.outer)[:1], prune=True, drain_timeout=None
    )
    assert outcome.status == 0, told(outcome)


def gue_ports(operator: Operator) -> str:
    """The ports at which the first real server unwraps GUE; all else is compared by `unchanged`."""
    return operator.site.real_servers[0].out("ip", "fou", "show")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_clients_are_answered_through_every_tunnel(unchanged: Operator, web: Process, case: Tunnelled) -> None:
    """And the real server is afterwards as it was."""
    outcome = add(unchanged, case)
    assert outcome.status == 0, told(outcome)
    assert any("for the tunnel: larger packets" in each for each in outcome.warnings)
    vip = unchanged.vip(case.inner, WEB)
    assert [unchanged.curl(vip) for _ in range(2)] == ["rs1"] * 2
    assert unchanged.lvs("drift").stdout.strip() == "nothing differs from what was committed"
    remove(unchanged, case)
    assert gue_ports(unchanged) == ""


@contextmanager
def sysctl(host: Host, name: str, value: int) -> Iterator[None]:
    """A setting of a host."""
    was = host.out("sysctl", "-n", name)
    host.run("sysctl", "-qw", f"{name}={value}")
    yield
    host.run("sysctl", "-qw", f"{name}={was}")


@pytest.mark.parametrize("tunnel", TUNNELS[:3], ids=lambda tunnel: tunnel.type.name.lower())
def test_what_is_checked_by_mark_is_asked_through_its_tunnel(unchanged: Operator, web: Process, tunnel: Tunnel) -> None:
    """Before it is added, too: nothing unwraps the others at the real server."""
    vip, key = unchanged.vip(4, WEB), f"tcp/{VIP}:{WEB}"
    with sysctl(unchanged.site.director, "net.ipv4.conf.eth0.accept_local", 1):
        for number, rs in enumerate(unchanged.rs(4)):
            outcome = unchanged.add(vip, [rs], forwarding=Forwarding.TUNNELING, tunnel=tunnel)
            assert outcome.status == 0, told(outcome)
            if number == 0:
                unchanged.lvs("health", "set", key, "--check", "http", "--through-vip", "--by-mark", *OFTEN)
        time.sleep(2.5)  # so long that whoever failed would be out
        assert weights(unchanged.site.director, {}) == dict.fromkeys(unchanged.rs(4), 1)
        outcome = unchanged.remove(vip, unchanged.rs(4), prune=True, drain_timeout=None)
        assert outcome.status == 0, told(outcome)


PLAIN = Tunnelled(tunnel=Tunnel(), inner=4, outer=4)


@pytest.mark.parametrize("strictness", [1, 2])
def test_the_source_check_lets_clients_through(unchanged: Operator, web: Process, strictness: int) -> None:
    """Whatever is set for all; a loose one, too, would drop what comes in by a device without an address."""
    with sysctl(unchanged.site.real_servers[0], "net.ipv4.conf.all.rp_filter", strictness):
        assert add(unchanged, PLAIN).status == 0
        assert unchanged.curl(unchanged.vip(4, WEB)) == "rs1"
        remove(unchanged, PLAIN)


def test_a_device_that_was_there_is_put_back_as_it_was(unchanged: Operator, web: Process) -> None:
    rs = unchanged.site.real_servers[0]
    rs.run("ip", "link", "add", "tunl0", "type", "ipip")
    for state in ("up", "down"):  # a device that was never up has another qdisc
        rs.run("ip", "link", "set", "tunl0", state)
    rs.run("sysctl", "-qw", "net.ipv4.conf.tunl0.rp_filter=1")
    before = unchanged.snapshots()
    assert add(unchanged, PLAIN).status == 0
    assert unchanged.curl(unchanged.vip(4, WEB)) == "rs1"
    remove(unchanged, PLAIN)
    assert unchanged.differences(before) == ""
    rs.run("ip", "link", "del", "tunl0")


def test_one_that_somebody_uses_by_now_stays(unchanged: Operator, web: Process) -> None:
    rs = unchanged.site.real_servers[0]
    assert add(unchanged, PLAIN).status == 0
    rs.run("ip", "address", "add", "192.0.2.9/32", "dev", "tunl0")
    remove(unchanged, PLAIN)
    assert "192.0.2.9/32" in rs.out("ip", "-o", "address", "show", "dev", "tunl0")
    rs.run("ip", "link", "del", "tunl0")
    assert add(unchanged, PLAIN).status == 0  # the silence, too, was kept for that address
    remove(unchanged, PLAIN)


def test_a_failure_takes_the_end_of_the_tunnel_back(unchanged: Operator, fou: None) -> None:
    """Nothing listens: the preparation is undone."""
    outcome = unchanged.add(
        unchanged.vip(4, WEB),
        unchanged.rs(4)[:1],
        forwarding=Forwarding.TUNNELING,
        tunnel=TUNNELS[-1],
        ready_timeout=0.0,
    )
    assert outcome.status == 10, told(outcome)
    assert gue_ports(unchanged) == ""


@pytest.mark.parametrize("damage", ["down", "gone", "strict", "port"])
def test_what_somebody_takes_away_is_put_back(unchanged: Operator, web: Process, damage: str) -> None:
    """By the agent itself, as the VIP would be."""
    rs = unchanged.site.real_servers[0]
    case = Tunnelled(tunnel=TUNNELS[-1], inner=4, outer=4)
    commands = {
        "down": ("ip", "link", "set", "tunl0", "down"),
        "gone": ("ip", "link", "del", "tunl0"),
        "strict": ("sysctl", "-qw", "net.ipv4.conf.tunl0.rp_filter=1"),
        "port": ("ip", "fou", "del", "port", str(GUE_PORT)),
    }
    assert add(unchanged, case).status == 0
    rs.run(*commands[damage])
    deadline = time.monotonic() + 30
    while not ready(unchanged):
        assert time.monotonic() < deadline, rs.out("ip", "-o", "link", "show")
        time.sleep(0.5)
    remove(unchanged, case)


def ready(operator: Operator) -> bool:
    return operator.curl(operator.vip(4, WEB)) == "rs1"


def test_what_cannot_be_had_is_refused_and_nothing_is_changed(unchanged: Operator, web: Process) -> None:
    checked = Tunnelled(tunnel=Tunnel(type=TunnelType.GRE, checksum=TunnelChecksum.FULL), inner=4, outer=4)
    outcome = add(unchanged, checked)
    assert outcome.status == 13, told(outcome)
    assert "takes no packets with a checksum" in outcome.message


def test_the_command_line_says_it_all(unchanged: Operator, web: Process) -> None:
    rs, vip = unchanged.rs(4)[0], f"{VIP}:{WEB}"
    words = [
        "add-backend",
        "--vip",
        vip,
        "--rs",
        rs,
        "--forward",
        "tun",
        "--tunnel-type",
        "gue",
        "--tunnel-port",
        "6080",
    ]
    plan = unchanged.lvs(*words, "--dry-run").stdout
    for line in ("add tunnel device tunl0", "add 127.254.0.1/32 to tunl0", "open UDP port 6080 for gue"):
        assert line in plan
    unchanged.lvs(*words)
    rules = unchanged.site.director.out("ipvsadm", "-Sn")
    assert f"-r {rs}:{WEB} -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum" in rules
    assert "gue/4/6080" in unchanged.lvs("rs", "show", rs).stdout
    unchanged.lvs("remove-backend", "--vip", vip, "--rs", rs, "--prune", "--no-drain")
