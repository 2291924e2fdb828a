"""The agents as programs: gRPC without our command, TLS, start and stop, a kernel without IPVS."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lvsagent.v1 import (
    change_service_pb2,
    change_service_pb2_grpc,
    destination_pb2,
    ipvs_service_pb2,
    ipvs_service_pb2_grpc,
    vip_pb2,
    vip_service_pb2_grpc,
    virtual_server_pb2,
)

from lab.agents import SCRIPTS
from lab.host import Host
from lab.site import VIP, VIP6, Site
from tests.certificates import Authority, uri
from tests.lab import by_hand
from tests.lab.operator import PORT, Operator

ONE_SIXTH = True

VIPS = {4: VIP, 6: VIP6}


@pytest.fixture
def director(operator: Operator) -> Iterator[grpc.Channel]:
    """A plain gRPC channel to the director's agent."""
    with grpc.insecure_channel(f"unix:{operator.agents['lb1'].socket}") as channel:
        yield channel


def test_a_generated_client_builds_the_site_without_our_command(
    operator: Operator, director: grpc.Channel, family: int
) -> None:
    """Point 2 of the milestone by four kinds of calls; reverting each by name leaves no trace."""
    before = operator.snapshots()
    vip = vip_pb2.Vip(address=VIPS[family])
    key = virtual_server_pb2.VirtualServerKey(
        service_address=virtual_server_pb2.ServiceAddress(
            protocol=virtual_server_pb2.PROTOCOL_TCP, address=vip.address, port=PORT
        )
    )
    holder = vip_pb2.VipHolder(operator="robot")
    made = []
    for rs in operator.site.real_servers:
        channel = grpc.insecure_channel(f"unix:{operator.agents[rs.name].socket}")
        request = vip_pb2.CreateVipRequest(vip=vip, holder=holder)
        made.append((channel, vip_service_pb2_grpc.VipServiceStub(channel).CreateVip(request).change))
    ipvs = ipvs_service_pb2_grpc.IpvsServiceStub(director)
    server = virtual_server_pb2.VirtualServer(key=key, scheduler="rr")
    create_server = virtual_server_pb2.CreateVirtualServerRequest(virtual_server=server)
    made.append((director, ipvs.CreateVirtualServer(create_server).change))
    create_vip = vip_pb2.CreateVipRequest(vip=vip, holder=holder)
    made.append((director, vip_service_pb2_grpc.VipServiceStub(director).CreateVip(create_vip).change))
    for address in operator.rs(family):
        destination = destination_pb2.Destination(key=destination_pb2.DestinationKey(address=address, port=PORT))
        create = destination_pb2.CreateDestinationRequest(virtual_server=key, destination=destination)
        made.append((director, ipvs.CreateDestination(create).change))

    by_hand.assert_answers_alternate(operator, family)
    by_hand.assert_table(operator, family)
    by_hand.assert_director(operator.site.director, family)
    for rs in operator.site.real_servers:
        by_hand.assert_real_server(rs, family)
    if family == 4:
        by_hand.assert_only_the_director_answers_arp(operator)

    for channel, change in reversed(made):
        assert change.made
        revert = change_service_pb2.RevertChangeRequest(change_id=change.id)
        answer = change_service_pb2_grpc.ChangeServiceStub(channel).RevertChange(revert)
        assert answer.outcome == change_service_pb2.REVERT_OUTCOME_REVERTED
    assert operator.differences(before) == ""


def test_reflection_is_enough_for_a_client_without_our_protos(operator: Operator) -> None:
    """buf curl, like grpcurl, lists services and calls one by reflection alone."""
    site = operator.site
    base = [str(SCRIPTS / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    url = f"http://{site.director.ipv4}:9710"
    listed = site.director.run(*base, "--list-methods", url, timeout=60).stdout
    assert "lvsagent.v1.IpvsService/CreateVirtualServer" in listed
    answer = site.director.run(*base, "--data", "{}", f"{url}/lvsagent.v1.HostService/GetHost", timeout=60).stdout
    assert '"AGENT_KIND_DIRECTOR"' in answer


def test_a_batch_is_all_or_nothing(operator: Operator, director: grpc.Channel) -> None:
    """The third of three operations fails: the two before it are taken back."""
    before = operator.snapshots()
    key = virtual_server_pb2.VirtualServerKey(
        service_address=virtual_server_pb2.ServiceAddress(
            protocol=virtual_server_pb2.PROTOCOL_UDP, address=VIP, port=53
        )
    )
    chunk = ipvs_service_pb2.BatchApplyRequest(last=True)
    chunk.operations.add().create_virtual_server.virtual_server.key.CopyFrom(key)
    for address in (operator.rs(4)[0], "192.168.0.255"):  # the kernel takes no broadcast address
        create = chunk.operations.add().create_destination
        create.virtual_server.CopyFrom(key)
        create.destination.key.address, create.destination.key.port = address, 53
    response = ipvs_service_pb2_grpc.IpvsServiceStub(director).BatchApply(iter([chunk]))
    assert not response.applied
    assert response.results[-1].HasField("error")
    assert operator.differences(before) == ""


def test_stopping_an_agent_changes_nothing_in_the_kernel(operator: Operator) -> None:
    """SIGTERM: it ends with 0, and traffic goes on; started again it knows what it made."""
    before = operator.snapshots()
    rs = operator.rs(4)[0]
    assert operator.add(operator.vip(4), [rs]).status == 0
    serving = operator.snapshots()
    for agent in operator.agents.values():
        assert agent.stop() == 0
    assert operator.differences(serving) == ""
    assert operator.curl(operator.vip(4)) == "rs1"
    for agent in operator.agents.values():
        agent.start()
    assert operator.remove(operator.vip(4), [rs], prune=True, drain_timeout=None).status == 0
    assert operator.differences(before) == ""


def test_a_second_agent_on_the_same_state_is_refused(operator: Operator) -> None:
    """Two agents would undo each other's work; the second says which directory, and ends."""
    agent = operator.agents["rs1"]
    done = operator.site.real_servers[0].run(
        str(SCRIPTS / "lvs-realserver"), "--state-dir", "/run/state/rs1", "--listen", "unix:/run/other.sock",
        check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "another agent" in done.stderr
    assert agent.is_running


def test_a_second_agent_on_the_same_port_is_refused(operator: Operator) -> None:
    """gRPC would share the port by default, and calls would go to either."""
    rs = operator.site.real_servers[0]
    done = rs.run(
        str(SCRIPTS / "lvs-realserver"), "--state-dir", "/run/state/other", "--insecure",
        "--listen", f"{rs.ipv4}:9711", check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "cannot listen on" in done.stderr


def test_without_tls_an_agent_serves_only_its_own_host(operator: Operator) -> None:
    """Another address needs TLS files, or --insecure said aloud."""
    rs = operator.site.real_servers[0]
    done = rs.run(str(SCRIPTS / "lvs-realserver"), "--listen", f"{rs.ipv4}:9712", check=False, timeout=30)
    assert done.returncode == 2
    assert "--tls-ca" in done.stderr


def test_tls_lets_in_only_whom_the_ca_knows(operator: Operator, tmp_path: Path) -> None:
    """With certificates both ways lvs works over the network; without, in plaintext, or as nobody, it is refused."""
    site = operator.site
    rs = site.real_servers[0]
    ca, stranger = Authority(tmp_path), Authority(tmp_path / "other")
    own = ca.issue("server", uri("realserver", "rs1"), addresses=[rs.ipv4]).options
    agent = start(site, rs, "--listen", f"{rs.ipv4}:9713", "--state-dir", "/run/state/tls", *own)
    try:
        where = ("--rs-agent", f"{rs.ipv4}={rs.ipv4}:9713")
        files = ca.issue("viewer", uri("viewer")).options
        assert lvs(site, *files, *where, "rs", "show", rs.ipv4).returncode == 0
        assert lvs(site, *own, *where, "rs", "show", rs.ipv4).returncode == 13
        assert lvs(site, "--insecure", *where, "--timeout", "2", "rs", "show", rs.ipv4).returncode == 14
        others = stranger.issue("admin", uri("admin")).options
        assert lvs(site, *others, *where, "--timeout", "2", "rs", "show", rs.ipv4).returncode == 14
    finally:
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0


def test_a_kernel_without_ipvs_is_said_and_not_served(operator: Operator, director: grpc.Channel) -> None:
    """A call gets a precondition error that names the module, health says NOT_SERVING; with it all is well again."""
    stub = health_pb2_grpc.HealthStub(director)
    ipvs = ipvs_service_pb2_grpc.IpvsServiceStub(director)
    codes = health_pb2.HealthCheckResponse
    assert health(stub) == codes.SERVING
    rule = Path("/etc/modprobe.d/no-ipvs.conf")
    rule.parent.mkdir(exist_ok=True)
    rule.write_text("install ip_vs /bin/false\n")
    try:
        loaded = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
        subprocess.run(["rmmod", *(name for name in loaded if name.startswith("ip_vs_")), "ip_vs"], check=True)
        with pytest.raises(grpc.RpcError) as refused:
            ipvs.ListVirtualServers(ipvs_service_pb2.ListVirtualServersRequest())
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "modprobe ip_vs" in str(refused.value.details())
        assert wait_for(lambda: health(stub) == codes.NOT_SERVING)
        refusal = operator.add(operator.vip(4), [operator.rs(4)[0]])
        assert (refusal.status, "no IPVS" in refusal.message) == (13, True), refusal.message
    finally:
        rule.unlink()
    assert list(ipvs.ListVirtualServers(ipvs_service_pb2.ListVirtualServersRequest()).virtual_servers) == []
    assert wait_for(lambda: health(stub) == codes.SERVING)


def health(stub: health_pb2_grpc.HealthStub) -> int:
    """What the agent's health says."""
    return int(stub.Check(health_pb2.HealthCheckRequest()).status)  # type: ignore[attr-defined]  # the types lack it


def wait_for(holds: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Wait until something holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def start(site: Site, host: Host, *options: str) -> subprocess.Popen[str]:
    """Start another real server's agent and wait until it serves."""
    agent = host.popen(str(SCRIPTS / "lvs-realserver"), *options)
    assert agent.stdout is not None  # stderr goes there too
    for line in agent.stdout:
        if "listens on" in line:
            return agent
    raise AssertionError("the agent did not start")


def lvs(site: Site, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run lvs on the director."""
    return site.director.run(str(SCRIPTS / "lvs"), *argv, check=False, timeout=60)
