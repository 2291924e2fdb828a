"""Every RPC for everybody: who is let in, and that a refused call changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from lvsagent.v1 import connection_service_pb2

from agent_common.access import Remembered
from agent_common.agent import serve
from agent_common.agent_settings import AgentSettings
from agent_common.deny_list import DenyList
from agent_common.endpoint import Endpoint, TlsFiles
from agent_common.handlers import Service
from agent_common.identity import Kind, Role
from agent_common.roles import ROLES
from agent_common.rpc_names import only_reads
from tests.certificates import Authority, uri
from tests.common import asking
from tests.common.asking import filled
from tests.hosts import DirectorHost, RealServerHost
from tests.serving import Host, services

HERE = "127.0.0.1"
PROTOS = Path(__file__).resolve().parent.parent.parent / "proto/lvsagent/v1"
FOREIGN_SERVICES = (
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
NOT_CONNECTED = grpc.StatusCode.UNAVAILABLE
NOBODY = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody with files (None: no certificate); how the agent refuses them, or which role they have."""

    files: TlsFiles | None
    refused: grpc.StatusCode | None = None
    role: Role = Role.NOBODY


def callers(folder: Path, at: Kind) -> tuple[dict[str, Caller], list[str]]:
    """Everybody who may come, and the serials that are denied."""
    ca, foreign = Authority(folder), Authority(folder / "foreign", "foreign CA")
    ca.issue("server", uri(at, "lb1"), addresses=[HERE])
    revoked = ca.issue("revoked", uri("admin"))
    known = {
        "viewer": Role.VIEWER,
        "operator": Role.OPERATOR,
        "admin": Role.ADMIN,
        "director": Role.VIEWER if at is Kind.REALSERVER else Role.NOBODY,
        "realserver": Role.NOBODY,
    }
    return {
        **{name: Caller(files=ca.issue(name, uri(name)).files, role=role) for name, role in known.items()},
        "no certificate": Caller(files=None, refused=NOT_CONNECTED),
        "a foreign CA's admin": Caller(files=foreign.issue("admin", uri("admin")).files, refused=NOT_CONNECTED),
        "an expired admin": Caller(
            files=ca.issue("expired", uri("admin"), days=(-2, -0.01)).files, refused=NOT_CONNECTED
        ),
        "an admin of tomorrow": Caller(
            files=ca.issue("tomorrow", uri("admin"), days=(0.5, 2)).files, refused=NOT_CONNECTED
        ),
        "two SANs": Caller(files=ca.issue("two", uri("admin"), uri("viewer")).files, refused=NOBODY),
        "no SAN": Caller(files=ca.issue("none").files, refused=NOBODY),
        "another URI": Caller(files=ca.issue("other", "https://example.org/lvs/admin/ada").files, refused=NOBODY),
        "an unknown role": Caller(files=ca.issue("root", uri("root")).files, refused=NOBODY),
        "another domain's admin": Caller(
            files=ca.issue("elsewhere", uri("admin", domain="example.com")).files, refused=NOBODY
        ),
        "a revoked admin": Caller(files=revoked.files, refused=NOBODY),
    }, [revoked.serial]


def make_host(kind: Kind) -> Host:
    return asking.director() if kind is Kind.DIRECTOR else RealServerHost()


def image(host: Host) -> str:
    """All of a host that a call could change."""
    kernel: list[Any] = [vars(host.addresses)]
    if isinstance(host, DirectorHost):
        servers = host.ipvs.virtual_servers()
        kernel += [servers, [host.ipvs.destinations(each.key) for each in servers]]
        kernel += [host.ipvs.timeouts(), host.ipvs.sync_daemons()]
    else:
        kernel += [vars(host.sysctls)]
    return repr((kernel, host.state._records))


@asynccontextmanager
async def serving(
    folder: Path, kind: Kind, host: Host, denied: Sequence[str] = (), beside: Sequence[Endpoint] = (), **more: Any
) -> AsyncIterator[str]:
    """An agent as it is shipped, on loopback with TLS; where it listens. Its certificate is folder/server.crt."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port = probe.getsockname()[1]
    (folder / "denied").write_text("# stolen\n" + "".join(f"{each}\n" for each in denied))
    settings = AgentSettings(
        listen=(Endpoint(host=HERE, port=port), *beside),
        state_dir=folder,
        deny_list=DenyList(folder / "denied"),
        **{
            "tls": TlsFiles(ca=folder / "ca.crt", cert=folder / "server.crt", key=folder / "server.key"),
            "insecure": False,
            **more,
        },
    )

    async def always() -> bool:
        return True

    remembered = Remembered(operations=host.transactions.operations_of, changes=host.changes.remembered)
    running = asyncio.ensure_future(serve(settings, kind, services(host), always, [], remembered))
    try:
        await until_it_listens(port, running)
        yield f"{HERE}:{port}"
    finally:
        if not running.done():
            signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(running, 10)


async def until_it_listens(port: int, running: asyncio.Future[None]) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HERE, port)
            writer.close()
            return
        if running.done():
            running.result()
        await asyncio.sleep(0.01)
    raise AssertionError("it does not listen")


@asynccontextmanager
async def connected(target: str, ca: Path, files: TlsFiles | None) -> AsyncIterator[grpc.aio.Channel]:
    key, cert = (files.key.read_bytes(), files.cert.read_bytes()) if files else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), key, cert)  # noqa: ASYNC240  # a small file
    async with grpc.aio.secure_channel(target, credentials) as channel:
        yield channel


def methods(offered: Sequence[Service]) -> list[MethodDescriptor]:
    """Every RPC that an agent serves, those of health and reflection too."""
    found: list[ServiceDescriptor] = [*(each.descriptor for each in offered), *FOREIGN_SERVICES]  # type: ignore[list-item]  # the same, by another name
    return [method for service in found for method in service.methods]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def short(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}/{method.name}"


async def ask(channel: grpc.aio.Channel, method: MethodDescriptor, request: Message) -> grpc.StatusCode:
    """Call an RPC of any kind; how it ended.

    A stream is asked again where grpcio itself fails to send into a call that was refused meanwhile (once in some
    thousand): it hides the agent's answer then.
    """
    while (ended := await ask_once(channel, method, request)) == (grpc.StatusCode.INTERNAL, "Internal error from Core"):
        assert method.client_streaming
    return ended[0]


async def ask_once(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: Message
) -> tuple[grpc.StatusCode, str | None]:
    kinds = (channel.unary_unary, channel.unary_stream, channel.stream_unary, channel.stream_stream)
    make: Any = kinds[2 * method.client_streaming + method.server_streaming]
    answer = GetMessageClass(method.output_type)
    call = make(path_of(method), GetMessageClass(method.input_type).SerializeToString, answer.FromString)
    ended = call(iter([request]) if method.client_streaming else request, timeout=5)
    try:
        if method.server_streaming:
            await ended.read()  # one that goes on for ever has been let in
            ended.cancel()
        else:
            await ended
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize("kind", [Kind.DIRECTOR, Kind.REALSERVER])
async def test_every_rpc_for_everybody(
    kind: Kind, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Only the role of a valid certificate lets anybody in, and whatever is refused changes nothing."""
    everybody, denied = callers(tmp_path, kind)
    requests = asking.DIRECTOR if kind is Kind.DIRECTOR else asking.REAL_SERVER
    counted = 0
    for name, caller in everybody.items():
        host = make_host(kind)
        async with (
            serving(tmp_path, kind, host, denied) as target,
            connected(target, tmp_path / "ca.crt", caller.files) as channel,
        ):
            in_order = sorted(methods(services(host)), key=lambda each: [*requests, short(each)].index(short(each)))
            for method in in_order:
                request = filled(GetMessageClass(method.input_type)(), requests.get(short(method), ""))
                before = image(host)
                code = await ask(channel, method, request)
                expected = caller.refused or (DENIED if caller.role < ROLES[path_of(method)] else None)
                if expected is not None or code is DENIED:
                    assert image(host) == before, (name, path_of(method))
                if expected is not None:
                    assert code is expected, (name, path_of(method))
                else:
                    assert code not in (NOT_CONNECTED, NOBODY), (name, path_of(method), code)
                if caller.role is Role.ADMIN and short(method) in requests:
                    assert (code, image(host) == before) == (grpc.StatusCode.OK, False), path_of(method)
                counted += 1
    record_property("counted", f"{kind}: {counted} calls by {len(everybody)} callers to {len(in_order)} RPCs")


@pytest.mark.parametrize("kind", [Kind.DIRECTOR, Kind.REALSERVER])
def test_every_rpc_that_changes_something_is_asked_so_that_it_would(kind: Kind) -> None:
    """Else a refusal that comes too late would not be seen."""
    requests = asking.DIRECTOR if kind is Kind.DIRECTOR else asking.REAL_SERVER
    ours = [each for each in methods(services(make_host(kind))) if "lvsagent" in each.full_name]
    changing = {short(each) for each in ours if not only_reads(each.name)}
    assert changing - set(asking.HARMLESS) == set(requests)


def documented_roles() -> dict[str, str]:
    """The role that each RPC's comment in its proto names first."""
    found = {}
    for file in sorted(PROTOS.glob("*_service.proto")):
        text = file.read_text(encoding="utf-8")
        service = re.search(r"^service (\w+)", text, re.MULTILINE)
        assert service is not None
        for comment, name in re.findall(r"((?:^  //.*\n)+)  rpc (\w+)", text, re.MULTILINE):
            role = re.search(r"Role: (\w+)", " ".join(comment.replace("//", " ").split()))
            assert role is not None, (file.name, name)
            found[f"/lvsagent.v1.{service[1]}/{name}"] = role[1]
    return found


def test_the_table_of_roles_has_every_rpc_and_says_what_the_protos_say() -> None:
    """A new RPC is in neither before somebody has thought about who may call it."""
    ours = {path: str(role) for path, role in ROLES.items() if path.startswith("/lvsagent.v1.")}
    assert ours == documented_roles()
    served = {path_of(each) for kind in (Kind.DIRECTOR, Kind.REALSERVER) for each in methods(services(make_host(kind)))}
    connections = connection_service_pb2.DESCRIPTOR.services_by_name["ConnectionService"]
    served |= {path_of(each) for each in connections.methods}
    assert served == set(ROLES)


def test_what_only_reads_is_a_viewers() -> None:
    """And nothing else is."""
    for path, role in ROLES.items():
        if path.startswith("/lvsagent.v1."):
            assert only_reads(path.rpartition("/")[2]) == (role is Role.VIEWER), path
