"""Checks that are asked of a real server's agent: what is asked of it, its answers, and every way not to have one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from lvsagent.v1 import backend_service_pb2, virtual_server_pb2

from agent_common.access import Access, Everybody
from agent_common.check import AgentCheck, HttpCheck, IcmpCheck, Kind, ScriptCheck, TcpCheck
from agent_common.check_script import Scripts
from agent_common.checker import Answer, Target
from agent_common.destination import Forwarding
from agent_common.endpoint import TlsFiles
from agent_common.errors import ExhaustedError, Reason
from agent_common.fake_checker import FakeChecker
from agent_common.handlers import Handlers, Service
from agent_common.health import DynamicWeight, WeightSource
from agent_common.identity import Role
from agent_common.virtual_server import parse_key
from agent_director.agent_channels import AgentChannels
from agent_director.check_agent import AgentChecks
from agent_director.checks import DirectorChecks
from tests.certificates import Authority, uri
from tests.common.checking import PLENTY, SECONDS, closes, says_nothing, serving, unused_port

NAME = "127.0.0.1"
AGENT = AgentCheck()
Request = backend_service_pb2.CheckBackendRequest
Response = backend_service_pb2.CheckBackendResponse


class Servicer:
    """A real server's agent that says what it is told to."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.response = Response(passed=True, detail="fine", load_percent=30)
        self.seconds = 0.0
        self.error: Exception | None = None

    async def CheckBackend(self, request: Request, context: Any) -> Response:  # noqa: N802  # its name on the wire
        self.asked.append(request)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.response


@asynccontextmanager
async def agent(servicer: Servicer, port: int = 0, files: TlsFiles | None = None) -> AsyncIterator[int]:
    """Serve it as agents do, behind their gate."""
    handlers = Handlers()
    descriptor = backend_service_pb2.DESCRIPTOR.services_by_name["BackendService"]
    service = Service(descriptor=descriptor, servicer=servicer)
    server = handlers.make_server(Access(Everybody(name="a test", role=Role.ADMIN)), [service])
    if files is None:
        port = server.add_insecure_port(f"{NAME}:{port}")
    else:
        ca, cert, key = files.read()
        credentials = grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)
        port = server.add_secure_port(f"{NAME}:{port}", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)
        await handlers.finish()


def target(agent_port: int, key: str = "tcp/192.168.0.200:80", port: int = 80, **more: Any) -> Target:
    return Target(address=ip_address(NAME), port=port, virtual_server=parse_key(key), agent_port=agent_port, **more)


async def ask(where: Target, kind: Kind = AGENT, seconds: float = PLENTY, tls: TlsFiles | None = None) -> Answer:
    """Ask over a connection of its own."""
    checks = AgentChecks(tls)
    try:
        begun = time.monotonic()
        answer = await checks(kind, where, seconds)
        assert time.monotonic() - begun < seconds + 0.5
        return answer
    finally:
        await checks.close()


@pytest.mark.parametrize(
    ("key", "forwarding", "address", "is_vip", "protocol"),
    [
        ("tcp/192.168.0.200:80", Forwarding.DIRECT_ROUTING, "192.168.0.200", True, "TCP"),
        ("udp/192.168.0.200:80", Forwarding.TUNNELING, "192.168.0.200", True, "UDP"),
        ("tcp/[2001:db8::200]:80", Forwarding.DIRECT_ROUTING, "2001:db8::200", True, "TCP"),
        ("udp/192.168.0.200:80", Forwarding.MASQUERADING, NAME, False, "UDP"),
        ("fwmark/7", Forwarding.DIRECT_ROUTING, NAME, False, "TCP"),
    ],
)
async def test_the_vip_is_asked_about_where_packets_for_it_reach_the_real_server(
    key: str, forwarding: Forwarding, address: str, is_vip: bool, protocol: str
) -> None:
    """With masquerading, and where a firewall mark does not say what the VIP is, the real server's own address."""
    servicer = Servicer()
    async with agent(servicer) as port:
        answer = await ask(target(port, key, 8080, forwarding=forwarding))
    assert answer == Answer(passed=True, detail="fine")
    (asked,) = servicer.asked
    assert (asked.address, asked.is_vip, asked.port) == (address, is_vip, 8080)
    assert asked.protocol == virtual_server_pb2.Protocol.Value(f"PROTOCOL_{protocol}")
    assert not asked.HasField("check")


async def test_a_check_through_the_vip_is_made_there_with_less_time_than_there_is_here() -> None:
    """So that it is the agent that says what is late."""
    servicer = Servicer()
    weight = DynamicWeight(source=WeightSource.HTTP_HEADER, header="X-Weight")
    servicer.response = Response(passed=False, detail="status 500", weight_percent=7, load_percent=30)
    async with agent(servicer) as port:
        answer = await ask(target(port, through_vip=True, dynamic_weight=weight), HttpCheck(path="/x"), 4.0)
    assert answer == Answer(passed=False, detail="status 500", percent=7)
    (asked,) = servicer.asked
    assert (asked.check.http.path, asked.dynamic_weight.http_header) == ("/x", "X-Weight")
    assert asked.timeout.ToTimedelta().total_seconds() == asked.check.timeout.ToTimedelta().total_seconds() == 3.8


@pytest.mark.parametrize(("load", "percent"), [(0, 100), (30, 70), (100, 0), (900, 0)])
async def test_the_load_of_the_host_is_what_is_missing_of_the_weight(load: int, percent: int) -> None:
    servicer = Servicer()
    servicer.response = Response(passed=True, load_percent=load)
    async with agent(servicer) as port:
        weight = DynamicWeight(source=WeightSource.AGENT_LOAD)
        assert (await ask(target(port, dynamic_weight=weight))).percent == percent
        assert (await ask(target(port))).percent is None


async def test_no_agent_fails_and_says_why() -> None:
    port = unused_port()
    answer = await ask(target(port))
    assert answer.detail == f"cannot reach the real server's agent at {NAME}:{port}: connection refused"
    async with serving(closes) as port:
        answer = await ask(target(port))
        assert answer.detail == f"cannot reach the real server's agent at {NAME}:{port}: UNAVAILABLE: Socket closed"


async def test_an_agent_that_says_nothing_fails_in_time() -> None:
    """Whether its gRPC answers or not."""
    servicer = Servicer()
    servicer.seconds = 60.0
    said = "no answer from the real server's agent at 127.0.0.1:{} within 0.15 s"
    async with agent(servicer) as port:
        assert (await ask(target(port), seconds=SECONDS)).detail == said.format(port)
    async with serving(says_nothing) as port:
        assert (await ask(target(port), seconds=SECONDS)).detail == said.format(port)


async def test_another_program_is_told_from_an_agent() -> None:
    """Such as the agent of a director, which has no such service."""
    server = grpc.aio.server()
    port = server.add_insecure_port(f"{NAME}:0")
    await server.start()
    answer = await ask(target(port))
    await server.stop(grace=None)
    assert answer.detail == (
        f"cannot ask the real server's agent at {NAME}:{port}: the program there is no such agent, or an older one"
    )


async def test_what_the_agent_refuses_is_said_in_its_words() -> None:
    servicer = Servicer()
    servicer.error = ExhaustedError("256 checks are made here already", Reason.TOO_MANY_CALLS)
    async with agent(servicer) as port:
        answer = await ask(target(port))
    assert answer.detail == f"cannot ask the real server's agent at {NAME}:{port}: 256 checks are made here already"


async def test_an_agent_that_was_restarted_is_asked_again_at_once() -> None:
    """The connection of before is dead, and nobody has noticed: that is no failed check."""
    port, checks = unused_port(), AgentChecks(None)
    for _ in range(3):
        async with agent(Servicer(), port):
            assert (await checks(AGENT, target(port), PLENTY)).passed
    assert not (await checks(AGENT, target(port), PLENTY)).passed
    async with agent(Servicer(), port):
        assert (await checks(AGENT, target(port), PLENTY)).passed  # at once: no failure is remembered
    await checks.close()


async def test_an_answer_that_is_late_does_not_end_those_that_others_wait_for() -> None:
    """They share a connection, which is not used again."""
    servicer, checks = Servicer(), AgentChecks(None)
    servicer.seconds = 0.3
    async with agent(servicer) as port:
        patient = asyncio.ensure_future(checks(AGENT, target(port), PLENTY))
        assert not (await checks(AGENT, target(port), 0.1)).passed
        assert (await patient).passed
    await checks.close()


async def test_a_connection_is_kept_and_closed_when_nobody_has_used_it(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = AgentChannels(None)
    used, other = (ip_address(NAME), 1), (ip_address(NAME), 2)
    with channels.using(used, 1.0) as first, channels.using(other, 1.0):
        pass
    with channels.using(used, 1.0) as second:
        assert first is second
    monkeypatch.setattr("agent_director.agent_channels.IDLE_SECONDS", -1.0)
    monkeypatch.setattr("agent_director.agent_channels._SWEEP_SECONDS", -1.0)
    with channels.using(used, 1.0):
        assert other not in channels
    await channels.close()
    assert used not in channels


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


async def test_with_tls_both_sides_prove_who_they_are(authority: Authority, tmp_path: Path) -> None:
    """What is wrong with either's certificate is said."""
    director = authority.issue("director", uri("director"), addresses=[NAME]).files
    real_server = authority.issue("rs", uri("realserver"), addresses=[NAME]).files
    other_name = authority.issue("other", uri("realserver"), addresses=["192.168.0.104"]).files
    expired = authority.issue("old", uri("realserver"), addresses=[NAME], days=(-9, -1)).files
    stranger = Authority(tmp_path / "stranger").issue("director", uri("director"), addresses=[NAME]).files
    trusting = replace(stranger, ca=authority.file)

    async def said(served: TlsFiles | None, tls: TlsFiles | None) -> str:
        async with agent(Servicer(), files=served) as port:
            answer = await ask(target(port), tls=tls)
            return answer.detail.removeprefix(f"cannot reach the real server's agent at {NAME}:{port}: ")

    assert await said(real_server, director) == "fine"
    assert await said(other_name, director) == f"its certificate is for other names than {NAME}"
    assert await said(expired, director) == "its certificate has expired"
    assert await said(real_server, stranger) == "its certificate is of a CA that is not trusted"
    assert await said(real_server, trusting) == "it does not accept the director's certificate"
    assert await said(None, director) == "connected, but no TLS handshake: it does not speak TLS"
    assert (await said(real_server, None)).startswith("UNAVAILABLE: ")
    gone = replace(director, key=tmp_path / "none")
    assert (await said(real_server, gone)).startswith("tls_key: cannot read")


async def test_files_that_are_replaced_count_with_the_next_check(authority: Authority) -> None:
    """A certificate is renewed without a restart."""
    real_server = authority.issue("rs", uri("realserver"), addresses=[NAME]).files
    director = authority.issue("director", uri("director"), days=(-9, -1)).files
    checks = AgentChecks(director)
    async with agent(Servicer(), files=real_server) as port:
        assert not (await checks(AGENT, target(port), PLENTY)).passed
        authority.issue("director", uri("director"))
        assert (await checks(AGENT, target(port), PLENTY)).passed
    await checks.close()


async def test_each_kind_is_made_by_whom_it_is_for(tmp_path: Path) -> None:
    """The real server's agent, a program, this host's own sockets, or the network."""
    servicer, network = Servicer(), FakeChecker()
    marked = FakeChecker(Answer(passed=True, detail="by a mark"))
    checks = DirectorChecks(Scripts(tmp_path), AgentChecks(None), marked, network)
    async with agent(servicer) as port:
        assert (await checks(AGENT, target(port), PLENTY)).detail == "fine"
        assert (await checks(TcpCheck(), target(port, through_vip=True), PLENTY)).detail == "fine"
        assert (await checks(TcpCheck(), target(port, through_vip=True, by_mark=True), PLENTY)).detail == "by a mark"
        assert (await checks(TcpCheck(), target(port), PLENTY)) == Answer(passed=True)
        script = await checks(ScriptCheck(argv=("/bin/true",)), target(port), PLENTY)
        assert script.detail == f"cannot run /bin/true: it is not below {tmp_path} (script_dir)"
        echo = await checks(IcmpCheck(), target(port), PLENTY)
        assert echo.passed or echo.detail.startswith("cannot open a socket for ICMP")
    assert len(servicer.asked) == 2
    assert network.asked.total() == 1
    await checks.close()
