"""add-backend beyond DR with TCP: NAT and UDP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent_common.destination import Forwarding
from cli.outcome import StepReport
from lab.site import VIP, VIP6
from lab.traffic import ask_udp
from tests.lab.operator import PORT, Operator, address_of

WEB = 8080
ONE_FAMILY = True


def endpoint(address: str, port: int) -> str:
    """Address and port as options take them."""
    return f"{address}:{port}" if "." in address else f"[{address}]:{port}"


def test_nat_translates_the_port_and_leaves_the_real_server_alone(unchanged: Operator, family: int) -> None:
    """A client's request to VIP:10000 is answered by port 8080 of a real server, on which nothing was changed."""
    operator = unchanged
    rs = operator.site.real_servers[0]
    where = endpoint(address_of(rs, family), WEB)
    vip = operator.vip(family)
    with nat_routing(operator, family), serving(operator, name="translated"):
        before = operator.snapshots()[rs.name]
        outcome = operator.add(vip, [where], forwarding=Forwarding.MASQUERADING)
        assert outcome.status == 0, outcome.message
        assert not any("not forwarded" in warning for warning in outcome.warnings)
        assert [operator.curl(vip) for _ in range(3)] == ["translated"] * 3
        assert operator.snapshots()[rs.name] == before
        assert operator.remove(vip, [where], prune=True, drain_timeout=None).status == 0


def test_nat_says_what_would_lose_packets(unchanged: Operator, family: int) -> None:
    """Forwarding off is refused unless forced; that the real server's way to clients is another one is only told."""
    operator = unchanged
    where = endpoint(address_of(operator.site.real_servers[0], family), WEB)
    with serving(operator):
        refused = operator.add(operator.vip(family), [where], forwarding=Forwarding.MASQUERADING)
        assert refused.status == 13, refused.message
        assert "is 0: packets of nat are not forwarded" in refused.message
        outcome = operator.add(operator.vip(family), [where], forwarding=Forwarding.MASQUERADING, force=True)
        assert outcome.status == 0, outcome.message
        assert any("is 0: packets of nat are not forwarded" in warning for warning in outcome.warnings)
        assert any("not by a director" in warning for warning in outcome.warnings)
        assert operator.remove(operator.vip(family), [where], prune=True, drain_timeout=None).status == 0


@contextmanager
def serving(operator: Operator, name: str | None = None) -> Iterator[None]:
    """A web server on port 8080 of the first real server."""
    server = operator.site.serve_http(operator.site.real_servers[0], WEB, address="::", name=name)
    yield
    server.stop()


@contextmanager
def nat_routing(operator: Operator, family: int) -> Iterator[None]:
    """The director forwards, the real server answers through it, and no redirect tells it a shorter way."""
    director, rs = operator.site.director, operator.site.real_servers[0]
    way = [address_of(operator.site.client, family), "via", address_of(director, family), "dev", "eth0"]
    ip = ["ip", "-6"] if family == 6 else ["ip"]
    if family == 4:
        settings = [
            (director, f"net.ipv4.{name}", 1) for name in ("conf.all.send_redirects", "conf.eth0.send_redirects")
        ]
        settings.append((director, "net.ipv4.ip_forward", 0))
    else:
        settings = [(rs, "net.ipv6.conf.eth0.accept_redirects", 1), (director, "net.ipv6.conf.all.forwarding", 0)]
    for host, name, was in settings:
        host.run("sysctl", "-q", "-w", f"{name}={1 - was}")
    rs.run(*ip, "route", "add", *way)
    yield
    rs.run(*ip, "route", "del", *way)
    for host, name, was in settings:
        host.run("sysctl", "-q", "-w", f"{name}={was}")


def test_udp_is_served_by_a_program_that_binds_the_vip(unchanged: Operator, family: int) -> None:
    """It cannot start before the VIP is there: it is started while add-backend waits for it, and answers."""
    operator, rs = unchanged, unchanged.site.real_servers[0]
    vip_address = VIP if family == 4 else VIP6
    started = []

    def start(step: StepReport) -> None:
        if step.title.startswith("prepare VIP"):
            started.append(operator.site.serve_udp(rs, PORT, address=vip_address, name="bound"))

    vip, own = operator.vip(family), [address_of(rs, family)]
    outcome = operator.add(vip, own, protocol="udp", on_step=start)
    assert outcome.status == 0, outcome.message
    assert not any("wildcard" in line for step in outcome.steps for line in step.warnings)
    assert ask_udp(operator.site.client, vip_address, PORT) == "bound"
    started[0].stop()
    outcome = operator.remove(vip, own, protocol="udp", prune=True, drain_timeout=1.0)
    assert outcome.status == 0, outcome.message


def test_a_udp_program_on_the_wildcard_address_is_taken_with_a_warning(unchanged: Operator, family: int) -> None:
    """Its answers have the real server's own address as their source."""
    operator, rs = unchanged, unchanged.site.real_servers[0]
    early = operator.site.serve_udp(rs, PORT, address="0.0.0.0" if family == 4 else "::", name="early")
    vip, own = operator.vip(family), [address_of(rs, family)]
    outcome = operator.add(vip, own, protocol="udp")
    assert outcome.status == 0, outcome.message
    assert any("wildcard" in line for step in outcome.steps for line in step.warnings)
    early.stop()
    assert operator.remove(vip, own, protocol="udp", prune=True, drain_timeout=None).status == 0


def test_the_director_still_reaches_the_real_servers_own_ipv6_address(unchanged: Operator) -> None:
    """The VIP is deprecated on the director: its own connections do not take it as their source."""
    operator = unchanged
    rs = operator.rs(6)[0]
    assert operator.add(operator.vip(6), [rs]).status == 0
    route = operator.site.director.out("ip", "-6", "route", "get", rs)
    assert f"src {operator.site.director.ipv6}" in route
    assert operator.site.director.run("ping", "-6", "-c", "1", "-W", "2", rs).returncode == 0
    assert operator.remove(operator.vip(6), [rs], prune=True, drain_timeout=None).status == 0
