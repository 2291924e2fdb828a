"""Several directors: the VIP is external, every director gets the same, and one that fails is undone on the others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from lvsagent.v1 import vip_pb2, vip_service_pb2_grpc

from agent_common import wire
from agent_common.vip import VipMode
from agent_common.virtual_server import parse_key
from lab.site import STATE, VIP, Site
from lab.traffic import connect
from tests.lab.conftest import UsualSite
from tests.lab.operator import PORT, Operator

ONE_EACH = True


@pytest.fixture(scope="module")
def operator(usual_site: UsualSite) -> Iterator[Operator]:
    """A site of two directors."""
    usual_site.end()
    with Site.make(real_servers=1, directors=2) as made:
        yield Operator.at(made)


def rules(operator: Operator) -> list[str]:
    """The IPVS tables of the directors."""
    return [director.out("ipvsadm", "-Sn") for director in operator.site.directors]


def test_both_directors_get_the_backend_and_neither_the_vip(unchanged: Operator, family: int) -> None:
    """Something else moves the VIP between directors: two of them must not both answer for it."""
    operator = unchanged
    rs = operator.rs(family)[0]
    assert operator.add(operator.vip(family), [rs]).status == 0
    first, second = rules(operator)
    assert first == second != ""
    for director in operator.site.directors:
        assert VIP not in director.out("ip", "-o", "addr")
    assert operator.remove(operator.vip(family), [rs], prune=True, drain_timeout=None).status == 0


def test_agent_mode_with_two_directors_is_refused(unchanged: Operator) -> None:
    """Two hosts would answer for one address."""
    outcome = unchanged.add(unchanged.vip(4), [unchanged.rs(4)[0]], vip_mode=VipMode.AGENT)
    assert outcome.status == 2
    assert "vip_mode" in outcome.message


def test_a_second_director_that_refuses_is_undone_on_the_first(operator: Operator) -> None:
    """The virtual server is there on the second, foreign, with another scheduler: nothing is changed anywhere."""
    second = operator.site.directors[1]
    second.run("ipvsadm", "-A", "-t", f"{VIP}:{PORT}", "-s", "sed")
    before = operator.snapshots()
    outcome = operator.add(operator.vip(4), [operator.rs(4)[0]], scheduler="rr")
    assert outcome.status == 13
    assert "sed" in outcome.message
    assert operator.differences(before) == ""
    second.run("ipvsadm", "-D", "-t", f"{VIP}:{PORT}")


def test_a_second_director_that_dies_is_undone_on_the_first(operator: Operator) -> None:
    """It is killed once the first has its virtual server: 10, and every host is as before."""
    before = operator.snapshots()
    second = operator.agents[operator.site.directors[1].name]

    def kill(step: object) -> None:
        if "virtual server" in str(step) and second.is_running:
            second.kill()

    outcome = operator.add(operator.vip(4), [operator.rs(4)[0]], on_step=kill)
    second.start()
    assert outcome.status == 10, outcome.message
    assert operator.differences(before) == ""


def test_a_removal_that_one_director_misses_leaves_the_vip_on_the_real_server(operator: Operator) -> None:
    """11: the real server keeps its VIP while a director may still send it clients; the command finishes later."""
    before = operator.snapshots()
    rs = operator.site.real_servers[0]
    assert operator.add(operator.vip(4), [rs.ipv4]).status == 0
    second = operator.agents[operator.site.directors[1].name]

    def kill(step: object) -> None:
        if "drain" in str(step) and second.is_running:
            second.kill()

    outcome = operator.remove(operator.vip(4), [rs.ipv4], prune=True, on_step=kill)
    assert outcome.status == 11, outcome.message
    assert f"{VIP}/32" in rs.out("ip", "-o", "addr", "show", "dev", "lo")
    second.start()
    assert operator.remove(operator.vip(4), [rs.ipv4], prune=True, drain_timeout=None).status == 0
    assert operator.differences(before) == ""


@pytest.mark.parametrize("word", ["commit", "abort"])
def test_the_operators_word_stands_for_an_authority_that_is_gone(operator: Operator, word: str) -> None:
    """It dies before it writes the decision down; the other director and the real server do what is assumed."""
    before = operator.snapshots()
    first, second = (operator.agents[each.name] for each in operator.site.directors)
    rs = operator.site.real_servers[0]
    both = ("--director", first.address, "--director", second.address)
    pair = ("--vip", operator.vip(4), "--rs", rs.ipv4)
    (STATE / first.host.name / "failpoint").write_text("director.commit.before_journal")
    operator.lvs(*both, "add-backend", *pair, "--lease", "5", status=11)
    time.sleep(6)
    left = ("--director", second.address)
    (known,) = {each["transaction"]["id"] for each in operator.lvs_json(*left, "txn", "list")["transactions"]}
    assert "its authority" in operator.lvs(*left, "txn", "resolve", known, status=11).stderr
    operator.lvs(*left, "txn", "resolve", known, f"--assume={word}")
    assert operator.lvs_json(*left, "txn", "list")["transactions"] == []
    served = f"-r {rs.ipv4}:{PORT} " in operator.site.directors[1].out("ipvsadm", "-Sn")
    assert served is (f"{VIP}/32" in rs.out("ip", "-o", "addr", "show", "dev", "lo")) is (word == "commit")
    first.start()
    deadline = time.monotonic() + 15.0  # it comes back all the same: its lease is over, and nothing is left there
    while rules(operator)[0] != "":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    if word == "commit":
        assert operator.remove(operator.vip(4), [rs.ipv4], prune=True, drain_timeout=None).status == 0
    assert operator.differences(before) == ""


def test_the_mode_of_a_vip_cannot_change_under_way(operator: Operator) -> None:
    """It belongs to the VIP and was recorded by the first command."""
    before = operator.snapshots()
    rs = operator.rs(4)[0]
    assert operator.add(operator.vip(4), [rs]).status == 0
    key = wire.pack_key(parse_key(f"tcp/{VIP}:{PORT}"))
    holder = vip_pb2.VipHolder(virtual_server=vip_pb2.VirtualServerHolder(key=key, authority="somebody"))
    vip = vip_pb2.Vip(address=VIP, mode=vip_pb2.VIP_MODE_AGENT)
    with grpc.insecure_channel(f"unix:{operator.agents['lb1'].socket}") as channel:
        stub = vip_service_pb2_grpc.VipServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="mode external, not agent") as refused:
            stub.CreateVip(vip_pb2.CreateVipRequest(vip=vip, holder=holder))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert operator.remove(operator.vip(4), [rs], prune=True, drain_timeout=None).status == 0
    assert operator.differences(before) == ""


def test_connections_that_a_sync_daemon_carries_survive_the_director(unchanged: Operator) -> None:
    """From its third packet on the second director knows a connection, and goes on with it when the VIP moves there."""
    operator = unchanged
    first, second = operator.site.directors
    rs = operator.site.real_servers[0]
    server = operator.site.serve_http(rs, PORT + 7, address="::")
    vip = operator.vip(4, PORT + 7)
    assert operator.add(vip, [rs.ipv4], scheduler="rr").status == 0
    sync = {"master": first, "backup": second}
    for role, director in sync.items():
        agent = ("--director", f"{director.ipv4}:9710")
        operator.lvs("sync", "start", role, "--interface", "eth0", "--sync-id", "7", *agent)
    first.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
    with connect(operator.site.client, VIP, PORT + 7) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n")
        connection.sendall(b"Host: vip\r\n")
        deadline = time.monotonic() + 10
        while f"{VIP}:{PORT + 7}" not in second.out("ipvsadm", "-Lcn"):
            assert time.monotonic() < deadline, first.out("ipvsadm", "-Lcn")
            time.sleep(0.2)
        first.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")
        second.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
        operator.site.client.run("ip", "neigh", "flush", "all")
        connection.sendall(b"\r\n")
        assert b"rs1" in connection.recv(4096)
    second.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")
    for role, director in sync.items():
        operator.lvs("sync", "stop", role, "--director", f"{director.ipv4}:9710")
    assert operator.remove(vip, [rs.ipv4], prune=True, drain_timeout=None).status == 0
    server.stop()
