"""What the state of a host forbids is refused before anything is changed: 13, naming the thing; 14 for no agent.

That the hosts are as before is asserted by the fixture `pristine`, by ip, ipvsadm and /proc.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_common.endpoint import Endpoint
from agent_common.virtual_server import parse_address
from cli.outcome import Outcome
from cli.site import Site as AgentSite
from lab import traffic
from lab.host import Host
from lab.namespace import ETC
from lab.site import VIP, VIP6
from tests.lab.attempt import ENVIRONMENT, attempt
from tests.lab.operator import LVS, PORT, Operator, address_of

ONE_FAMILY = True

SECOND = {4: "192.168.0.222", 6: "2001:db8::222"}
"""A further address of the first real server."""

PREFIX = {4: 24, 6: 64}
ADDRESS = {4: VIP, 6: VIP6}


def endpoint(address: str, port: int = PORT) -> str:
    """Address and port as --vip takes them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def assert_refused(outcome: Outcome, *names: str, status: int = 13) -> None:
    """One line that names the agent and the thing; no step was begun."""
    assert outcome.status == status, outcome
    for text in (*names, "nothing was changed"):
        assert text in outcome.message, outcome.message
    assert "\n" not in outcome.message
    assert outcome.steps == []


@contextlib.contextmanager
def by_hand(host: Host, *command: str) -> Iterator[None]:
    """What an operator has set by `ip … add …`, and deletes again."""
    host.run("ip", *command)
    yield
    host.run("ip", *("del" if word == "add" else word for word in command if word != "nodad"))


@contextlib.contextmanager
def file_text(path: Path, text: str) -> Iterator[None]:
    """Another content of a file, which may be mounted elsewhere and so is written in place."""
    before = path.read_text()
    path.write_text(text)
    yield
    path.write_text(before)


def test_a_vip_that_is_the_real_servers_own_address(pristine: Operator, family: int) -> None:
    """With dr it would be taken off the wire by nobody or by both."""
    rs = pristine.site.real_servers[0]
    vip = SECOND[family]
    with by_hand(rs, "addr", "add", f"{vip}/{PREFIX[family]}", "dev", "eth0", *["nodad"][: family // 6]):
        outcome = attempt(pristine, endpoint(vip), [address_of(rs, family)])
    assert_refused(outcome, f"real server {address_of(rs, family)}", vip, "own address on eth0")


def test_a_vip_that_is_a_next_hop_of_the_real_server(pristine: Operator, family: int) -> None:
    """The route through it would lead into the host itself."""
    rs = pristine.site.real_servers[0]
    target = "198.51.100.0/24" if family == 4 else "2001:db8:77::/64"
    with by_hand(rs, "route", "add", target, "via", ADDRESS[family]):
        outcome = attempt(pristine, pristine.vip(family), [address_of(rs, family)])
    assert_refused(outcome, f"real server {address_of(rs, family)}", ADDRESS[family], "next hop")


def test_a_vip_that_is_a_name_server_of_the_real_server(pristine: Operator, family: int) -> None:
    """The host would ask itself."""
    rs = pristine.site.real_servers[0]
    text = f"search example.net\nnameserver 198.51.100.1\nnameserver {ADDRESS[family]}\n"
    with file_text(ETC / rs.name / "resolv.conf", text):
        outcome = attempt(pristine, pristine.vip(family), [address_of(rs, family)])
    assert_refused(outcome, f"real server {address_of(rs, family)}", ADDRESS[family], "name server")


def test_a_vip_that_is_the_directors_source_address(pristine: Operator, family: int) -> None:
    """The real server would answer the director's agent, and its health checks, on lo."""
    director = address_of(pristine.site.director, family)
    rs = pristine.rs(family)[0]
    outcome = attempt(pristine, endpoint(director), [rs])
    assert_refused(outcome, f"real server {rs}", director, "director reaches this host")


def test_a_vip_that_is_the_other_end_of_the_very_connection(pristine: Operator) -> None:
    """lvs runs on the client, and the real server's agent would cut itself off from it."""
    client, rs = pristine.site.client, pristine.rs(4)[0]
    director = ("--director", pristine.agents["lb1"].address)
    argv = (*director, "add-backend", "--vip", endpoint(client.ipv4), "--rs", rs)
    done = client.run(str(LVS), *argv, check=False, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 13, done.stderr
    assert f"real server {rs}: cannot put VIP {client.ipv4} on lo" in done.stderr


def test_connections_that_the_real_server_itself_has_open_to_the_vip(pristine: Operator, family: int) -> None:
    """They would be reset: refused, unless --force is given."""
    first, second = pristine.site.real_servers
    vip = pristine.vip(family)
    assert pristine.add(vip, [address_of(second, family)]).status == 0
    before = pristine.snapshots()
    with traffic.connect(first, ADDRESS[family], PORT):
        outcome = attempt(pristine, vip, [address_of(first, family)])
        assert_refused(outcome, f"real server {address_of(first, family)}", "1 connections", "--force")
        assert pristine.differences(before) == ""
        assert attempt(pristine, vip, [address_of(first, family)], force=True).status == 0
    assert pristine.remove(vip, pristine.rs(family), prune=True, drain_timeout=None).status == 0


@pytest.mark.parametrize("value", [3, 4])
def test_an_interface_that_would_still_answer_arp(pristine: Operator, value: int) -> None:
    """The larger value counts, and arp_ignore is no scale: the message names interface, value and the remedy."""
    rs = pristine.site.real_servers[0]
    setting = Path("/proc/sys/net/ipv4/conf/eth0/arp_ignore")
    rs.inside(lambda: setting.write_text(str(value)))
    outcome = attempt(pristine, pristine.vip(4), [rs.ipv4])
    rs.inside(lambda: setting.write_text("0"))
    assert_refused(outcome, f"real server {rs.ipv4}", f"eth0/arp_ignore is {value}", "sysctl -w")


def test_ipvs_on_the_real_server_that_serves_the_same(pristine: Operator, family: int) -> None:
    """Packets would circle between the two."""
    rs = pristine.site.real_servers[0]
    rs.run("ipvsadm", "-A", "-t", pristine.vip(family), "-s", "rr")
    outcome = attempt(pristine, pristine.vip(family), [address_of(rs, family)])
    rs.run("ipvsadm", "-C")
    assert_refused(outcome, f"real server {address_of(rs, family)}", f"tcp/{pristine.vip(family)}", "IPVS")


def test_something_that_listens_on_the_vip_on_the_director(pristine: Operator, family: int) -> None:
    """Even an empty virtual server would cut it off."""
    director, vip = pristine.site.director, ADDRESS[family]
    with by_hand(director, "addr", "add", f"{vip}/{PREFIX[family]}", "dev", "eth0", *["nodad"][: family // 6]):
        server = pristine.site.serve_http(director, PORT + 1, address=vip)
        outcome = attempt(pristine, endpoint(vip, PORT + 1), [pristine.rs(family)[0]])
        server.kill()
    assert_refused(outcome, "director", f"something listens on {endpoint(vip, PORT + 1)}")


def test_the_directors_agent_itself(pristine: Operator) -> None:
    """A virtual server on its port, or on port 0 of its address, would cut off everybody who talks to it."""
    director, rs = pristine.site.director.ipv4, pristine.rs(4)[0]
    outcome = attempt(pristine, endpoint(director, 9710), [rs])
    assert_refused(outcome, "director", "this agent itself", f"{director}:9710")


def test_a_real_server_that_is_not_on_link(pristine: Operator) -> None:
    """dr rewrites MAC addresses only: nothing would arrive through a gateway."""
    director, rs = pristine.site.director, pristine.site.real_servers[0]
    with by_hand(director, "route", "add", f"{rs.ipv4}/32", "via", pristine.site.client.ipv4):
        outcome = attempt(pristine, pristine.vip(4), [rs.ipv4])
    assert_refused(outcome, "director", rs.ipv4, "on link")


def test_an_agent_that_runs_on_another_host(pristine: Operator) -> None:
    """--rs-agent names the agent of rs2 for rs1: it does not have that address."""
    first = pristine.rs(4)[0]
    socket = pristine.agents["rs2"].socket
    outcome = attempt(pristine, pristine.vip(4), [first], site=moved(pristine, first, socket))
    assert_refused(outcome, f"real server {first}", "another host", "rs2")


def test_no_virtual_server_and_no_create(pristine: Operator) -> None:
    """--no-create: 13, naming the virtual server."""
    outcome = attempt(pristine, pristine.vip(4), [pristine.rs(4)[0]], create=False)
    assert_refused(outcome, "director", f"tcp/{pristine.vip(4)}", "--no-create")


def test_port_0_without_persistence(pristine: Operator) -> None:
    """Only a virtual server that is there could have it: 2, naming the option."""
    outcome = attempt(pristine, endpoint(VIP, 0), [pristine.rs(4)[0]])
    assert (outcome.status, outcome.steps) == (2, [])
    assert outcome.message == "persistent: a new virtual server with port 0 needs --persistent"


def test_a_vip_in_no_subnet_of_the_director(pristine: Operator) -> None:
    """--vip-device has no default then: 2, naming the field."""
    outcome = attempt(pristine, endpoint("198.51.100.7"), [pristine.rs(4)[0]])
    assert (outcome.status, outcome.steps) == (2, [])
    for text in ("device", "no interface", "198.51.100.7"):
        assert text in outcome.message


def moved(operator: Operator, rs: str, path: Path) -> AgentSite:
    """The site with another socket for a real server's agent."""
    site = operator.agent_site()
    return replace(site, rs_agents={**site.rs_agents, parse_address(rs, "rs"): Endpoint(path=str(path))})


def test_no_agent_answers(pristine: Operator) -> None:
    """14, naming the agent: nobody listens there, or one that stands still does."""
    rs = pristine.rs(4)[0]
    outcome = attempt(pristine, pristine.vip(4), [rs], site=moved(pristine, rs, Path("/run/nobody.sock")))
    assert_refused(outcome, f"real server {rs}", "cannot connect", status=14)
    pristine.agents["lb1"].pause()
    outcome = attempt(pristine, pristine.vip(4), [rs], timeout=1)
    assert_refused(outcome, "director", "within 1 s", status=14)


def test_an_agent_of_the_other_kind(pristine: Operator) -> None:
    """14: the real server's agent was looked for at the director's, and the other way round."""
    rs = pristine.rs(4)[0]
    director, real_server = pristine.agents["lb1"].socket, pristine.agents["rs1"].socket
    outcome = attempt(pristine, pristine.vip(4), [rs], site=moved(pristine, rs, director))
    assert_refused(outcome, f"real server {rs}", "is a director's", status=14)
    site = replace(pristine.agent_site(), directors=(Endpoint(path=str(real_server)),))
    outcome = attempt(pristine, pristine.vip(4), [rs], site=site)
    assert_refused(outcome, f"director unix:{real_server}", "is a realserver's", status=14)


def test_something_that_is_no_agent_at_all(pristine: Operator) -> None:
    """14: a web server answers on that port, and an address that no host has."""
    rs = pristine.rs(4)[0]
    for where in (f"{rs}:{PORT}", "192.168.0.77:9711"):
        options = ("--rs-agent", f"{rs}={where}", "--timeout", "4", "--output", "json")
        document = pristine.lvs(*options, "add-backend", "--vip", pristine.vip(4), "--rs", rs, status=14)
        assert f"real server {rs}: cannot connect to {where}" in document.stdout
        assert "nothing was changed" in document.stdout
        assert document.stderr == ""
