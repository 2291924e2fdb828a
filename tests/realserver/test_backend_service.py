"""Whether a real server can serve: VIP, silence, what listens, and checks on the VIP's own path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TypeVar

import pytest
from lvsagent.v1 import backend_service_pb2, check_pb2, health_pb2, virtual_server_pb2

from agent_common.address import Device
from agent_common.checker import Answer
from agent_common.errors import ExhaustedError, InvalidInputError, Reason
from agent_common.fake_address import ETHERNET_DEVICE, LOOPBACK_DEVICE, FakeAddresses
from agent_common.fake_checker import FakeChecker
from agent_common.health import WeightSource
from agent_common.listening import Listeners
from agent_common.sockets import Acceptance, Listener
from agent_common.virtual_server import IpAddress, Protocol
from agent_realserver.backend import HeldHere, load_percent
from agent_realserver.backend_service import MAX_CHECKS, BackendServicer
from tests.hosts import VIP, VIP6, RealServerHost, own_address, run

T = TypeVar("T")

TUNNEL = Device(name="tunl0", kind="ipip", does_arp=False, up=True)
Response = backend_service_pb2.CheckBackendResponse
OWN = "192.168.0.104"


class Agent:
    """A real server's agent with its VIPs; accepting are the addresses and ports that take TCP connections."""

    def __init__(self, *addresses: tuple[str, str], silent: bool = True) -> None:
        found = [own_address(OWN), *(own_address(each, 32, device) for each, device in addresses)]
        devices = (LOOPBACK_DEVICE, ETHERNET_DEVICE, TUNNEL)
        self.host = RealServerHost(addresses=FakeAddresses(found, devices))
        if silent:
            self.host.silence.silence(self.host.silence.plan())
        self.accepting: set[tuple[str, int]] = set()
        self.checker = FakeChecker()
        self.reads = 0
        listeners = Listeners(self.host.addresses, self.host.sockets, run, self._accepts)
        here = HeldHere(self.host.silence, self.host.addresses, self._run)
        self.servicer = BackendServicer(here, listeners, self.checker)

    async def _run(self, function: Callable[[], T], /) -> T:
        self.reads += 1
        return await run(function)

    async def _accepts(self, address: IpAddress, port: int, seconds: float) -> Acceptance:
        if (str(address), port) in self.accepting:
            return Acceptance(accepted=True)
        return Acceptance(accepted=False, detail="connection refused")

    async def ask(self, address: IpAddress | str = VIP, port: int = 80, **more: Any) -> Response:
        """Ask whether it can serve: a VIP, over TCP, unless something else is said."""
        request = backend_service_pb2.CheckBackendRequest(address=str(address), port=port)
        for name, value in {"is_vip": True, "protocol": virtual_server_pb2.PROTOCOL_TCP, **more}.items():
            if isinstance(value, bool | int):
                setattr(request, name, value)
            elif isinstance(value, float):
                getattr(request, name).FromNanoseconds(int(value * 1e9))
            else:
                getattr(request, name).CopyFrom(value)
        return await self.servicer.CheckBackend(request, None)  # type: ignore[arg-type]  # it is not looked at

    async def problem(self, address: IpAddress | str = VIP, port: int = 80, **more: Any) -> str:
        """Why it cannot serve."""
        response = await self.ask(address, port, **more)
        assert not response.passed
        return response.detail


def listener(address: str, protocol: Protocol = Protocol.TCP, port: int = 80) -> Listener:
    return Listener(protocol=protocol, address=ip_address(address), port=port)


async def test_a_vip_in_place_silent_and_with_something_that_listens_passes() -> None:
    agent = Agent((str(VIP), "lo"))
    agent.accepting = {(str(VIP), 80)}
    response = await agent.ask()
    assert response.passed
    assert response.detail == f"VIP {VIP} on lo and silent, something listens on tcp port 80"
    assert response.load_percent == pytest.approx(load_percent(), abs=50)
    assert not response.HasField("weight_percent")


async def test_a_vip_that_is_not_on_lo_fails() -> None:
    """Nor does one on an interface, for which the host would answer; on a tunnel's end it is in place."""
    assert await Agent().problem() == f"VIP {VIP} is not on lo"
    assert await Agent((str(VIP), "eth0")).problem() == f"VIP {VIP} is not on lo, but on eth0"
    assert (await Agent((str(VIP), "tunl0")).ask(port=0)).passed
    assert (await Agent((str(VIP), "eth0"), (str(VIP), "lo")).ask(port=0)).passed


async def test_a_vip_that_goes_is_noticed_with_the_next_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent((str(VIP), "lo"))
    assert (await agent.ask(port=0)).passed
    agent.host.addresses.remove_address(VIP, 32, "lo")
    await asyncio.sleep(0.25)
    assert await agent.problem(port=0) == f"VIP {VIP} is not on lo"


async def test_a_host_that_would_answer_arp_for_the_vip_fails() -> None:
    """With the line that mends it; IPv6 needs no sysctl."""
    agent = Agent((str(VIP), "lo"), (str(VIP6), "lo"), silent=False)
    assert "eth0 would answer ARP for the VIP: all/arp_ignore is 0" in await agent.problem(port=0)
    assert (await agent.ask(VIP6, port=0)).passed


async def test_nothing_that_listens_fails_and_says_where_something_does() -> None:
    agent = Agent((str(VIP), "lo"))
    assert await agent.problem() == "connection refused"
    agent.host.sockets.bound = [listener(OWN)]
    assert await agent.problem() == f"something listens on port 80 of {OWN} only"


async def test_udp_and_sctp_are_looked_up_in_the_tables() -> None:
    agent = Agent((str(VIP), "lo"))
    udp = virtual_server_pb2.PROTOCOL_UDP
    assert await agent.problem(protocol=udp) == "no UDP socket is bound to port 80"
    agent.host.sockets.bound = [listener("0.0.0.0", Protocol.UDP), listener(str(VIP), Protocol.SCTP, 81)]
    assert (await agent.ask(protocol=udp)).passed
    assert (await agent.ask(protocol=virtual_server_pb2.PROTOCOL_SCTP, port=81)).passed


async def test_with_masquerading_its_own_address_is_asked_and_no_other_hosts() -> None:
    agent = Agent()
    agent.accepting = {(OWN, 80), ("192.168.0.7", 80)}
    assert (await agent.ask(OWN, is_vip=False)).detail == "something listens on tcp port 80"
    assert await agent.problem("192.168.0.7", is_vip=False) == "192.168.0.7 is not an address of this host"


async def test_a_check_is_made_of_the_vip_from_here() -> None:
    """In place of looking for a listener, but not of looking for the VIP; its answer comes back with the weight."""
    agent = Agent((str(VIP), "lo"))
    weight = health_pb2.DynamicWeight(http_header="X-Weight")
    check = check_pb2.Check(http=check_pb2.HttpCheck(path="/x"))
    check.timeout.FromMilliseconds(300)
    agent.checker.answers[VIP] = Answer(passed=True, detail="status 200", percent=150)
    response = await agent.ask(check=check, dynamic_weight=weight, timeout=1.0)
    assert (response.passed, response.detail, response.weight_percent) == (True, "status 200", 150)
    assert agent.checker.last is not None
    kind, target, seconds = agent.checker.last
    assert (target.address, target.port, seconds) == (VIP, 80, 0.3)
    assert target.dynamic_weight is not None
    assert (target.dynamic_weight.source, target.dynamic_weight.header) == (WeightSource.HTTP_HEADER, "X-Weight")
    assert getattr(kind, "path", "") == "/x"

    agent.checker.answers[VIP] = Answer(passed=False, detail="status 500, wanted 200-299", percent=-3)
    response = await agent.ask(check=check)
    assert (response.passed, response.detail) == (False, "status 500, wanted 200-299")
    assert response.weight_percent == 0
    assert await Agent().problem(check=check) == f"VIP {VIP} is not on lo"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"address": "nonsense"}, "address"),
        ({"address": "127.0.0.1"}, "address"),
        ({"address": "0.0.0.0"}, "address"),
        ({"protocol": 0}, "protocol"),
        ({"port": 65536}, "port"),
        ({"port": 0, "check": check_pb2.Check(tcp=check_pb2.TcpCheck())}, "port"),
        ({"timeout": 0.001}, "timeout"),
        ({"timeout": 61.0}, "timeout"),
        ({"check": check_pb2.Check()}, "check.kind"),
        ({"check": check_pb2.Check(icmp=check_pb2.IcmpCheck())}, "check.kind"),
        ({"check": check_pb2.Check(script=check_pb2.ScriptCheck(argv=["/bin/sh"]))}, "check.kind"),
        ({"check": check_pb2.Check(agent=check_pb2.AgentCheck())}, "check.kind"),
        ({"check": check_pb2.Check(http=check_pb2.HttpCheck(method="x y"))}, "check.http.method"),
        ({"check": check_pb2.Check(tcp=check_pb2.TcpCheck()), "is_vip": False}, "check"),
        ({"dynamic_weight": health_pb2.DynamicWeight()}, "dynamic_weight"),
        ({"dynamic_weight": health_pb2.DynamicWeight(http_header="X Y")}, "dynamic_weight.http_header"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_with_the_field(more: dict[str, Any], field: str) -> None:
    """Loopback is no address of a real server: what listens there alone trusts the host's own programs."""
    with pytest.raises(InvalidInputError) as caught:
        await Agent((str(VIP), "lo")).ask(**more)
    assert caught.value.field == field


async def test_so_many_at_a_time_are_made_and_no_more() -> None:
    agent = Agent((str(VIP), "lo"))
    agent.checker.hung.add(VIP)
    check = check_pb2.Check(tcp=check_pb2.TcpCheck())
    check.timeout.FromMilliseconds(100)
    under_way = [asyncio.ensure_future(agent.ask(check=check)) for _ in range(MAX_CHECKS)]
    await asyncio.sleep(0.01)
    with pytest.raises(ExhaustedError) as caught:
        await agent.ask(check=check)
    assert caught.value.reason is Reason.TOO_MANY_CALLS
    assert {response.detail for response in await asyncio.gather(*under_way)} == {"no answer within 0.1 s"}
    agent.checker.hung.clear()
    assert (await agent.ask(check=check)).passed


async def test_however_many_ask_at_a_time_the_kernel_is_read_once() -> None:
    """Each director asks for each of its virtual servers, every few seconds."""
    agent = Agent((str(VIP), "lo"))
    assert all(response.passed for response in await asyncio.gather(*(agent.ask(port=0) for _ in range(50))))
    assert agent.reads == 1


async def test_a_host_that_is_slow_itself_is_not_waited_for() -> None:
    """An answer comes in time in any case: the director would take none for a dead agent."""
    agent = Agent((str(VIP), "lo"))
    held = asyncio.Event()

    async def stuck(function: Callable[[], T], /) -> T:
        await held.wait()
        return function()

    agent.servicer = BackendServicer(
        HeldHere(agent.host.silence, agent.host.addresses, stuck),
        Listeners(agent.host.addresses, agent.host.sockets, stuck),
        agent.checker,
    )
    assert await agent.problem(timeout=0.05) == "the real server's agent has not come to an end within 0.05 s"
    held.set()
    assert (await agent.ask(port=0)).passed
