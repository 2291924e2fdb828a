"""Agents on fakes for these tests: served in this process, called with any message, and looked at before and after."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from lvsagent.v1 import connection_service_pb2

from agent_common import limits
from agent_common.access import Access, Everybody, Remembered
from agent_common.audit_file import open_audit
from agent_common.audit_log import AuditLog
from agent_common.errors import UNFINISHED
from agent_common.grpc_errors import DOMAIN
from agent_common.handlers import Handlers, Service
from agent_common.identity import Kind, Role
from agent_director.connection_service import ConnectionServicer
from agent_director.procfs_connections import ProcfsConnections
from tests.common import asking
from tests.common.test_access import make_host, methods, path_of, short
from tests.hosts import run
from tests.serving import Host, services

SECONDS = 5.0
"""So long one call may take here, on a busy machine too."""

CONNECTION = "TCP C0A80068 9C40 C0A800C8 0050 C0A8000A 0050 ESTABLISHED     899\n"


_KEY = 'service_address { protocol: PROTOCOL_TCP address: "192.168.0.200" port: 80 }'
_RS = 'address: "192.168.0.104" port: 80'
_DRIFT = f"kind: DRIFT_KIND_MISSING destination {{ virtual_server {{ {_KEY} }} destination {{ {_RS} }} }}"

MORE = {
    "TransactionService/CommitTransaction": 'transaction_id: "t"',
    "TransactionService/ReadyTransaction": 'transaction_id: "t"',
    "TransactionService/FinishTransaction": 'transaction_id: "t"',
    "TransactionService/GetTransaction": 'transaction_id: "t"',
    "TransactionService/ListTransactions": "all: true page_size: 1",
    "IpvsService/GetVirtualServer": f"key {{ {_KEY} }} statistics: true",
    "IpvsService/GetDestination": f"virtual_server {{ {_KEY} }} destination {{ {_RS} }}",
    "IpvsService/ListDestinations": f"virtual_server {{ {_KEY} }}",
    "IpvsService/ZeroCounters": f"key {{ {_KEY} }}",
    "IpvsService/ApplyTable": f"""
        part {{ entries {{ key {{ {_KEY} }} virtual_server {{ key {{ {_KEY} }} scheduler: "rr" }}
        destinations {{ key {{ {_RS} }} weight: 3 }} }} }} last: true""",
    "DriftService/RepairDrift": f"repairs {{ drift {{ {_DRIFT} }} }}",
    "HostService/CheckListener": 'protocol: PROTOCOL_TCP address: "127.0.0.1" port: 1',
    "BackendService/CheckBackend": """
        address: "192.168.0.200" is_vip: true protocol: PROTOCOL_TCP port: 1 timeout { nanos: 20000000 }
        check { tcp {} timeout { nanos: 20000000 } } dynamic_weight { http_header: "X" }""",
    "HostService/GetHost": f'routes_to: "192.168.0.104" virtual_server {{ {_KEY} }}',
    "VipService/GetVip": 'address: "192.168.0.205"',
    "AuditService/ListAudit": 'page_size: 2 page_token: "3" since { seconds: 1 } containing: "ada"',
}
"""Requests that make sense of RPCs that tests.common.asking leaves out, since they change nothing as they are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call: what it was asked, a list where the client streams."""

    method: MethodDescriptor
    requests: Sequence[Message]

    def __str__(self) -> str:
        return f"{short(self.method)}({', '.join(str(each) for each in self.requests)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended: the status, the reason of ours, and the answers."""

    code: grpc.StatusCode
    message: str
    domain: str
    metadata: dict[str, str]
    answers: Sequence[Message]

    @property
    def is_foreign(self) -> bool:
        """Whether it is no status of ours."""
        return self.code is not grpc.StatusCode.OK and self.domain != DOMAIN


def offered(host: Host, kind: Kind, folder: Path) -> list[Service]:
    """Return all services of an agent."""
    found = services(host, audit=open_audit(folder))
    if kind is Kind.DIRECTOR:
        (folder / "ip_vs_conn").write_text("Pro FromIP FPrt ToIP TPrt DestIP DPrt State Expires\n" + CONNECTION * 3)
        servicer = ConnectionServicer(ProcfsConnections(folder), run)
        descriptor = connection_service_pb2.DESCRIPTOR.services_by_name["ConnectionService"]
        found.append(Service(descriptor=descriptor, servicer=servicer))
    return found


@asynccontextmanager
async def serving(
    host: Host,
    kind: Kind,
    folder: Path,
    *,
    access: Access | None = None,
    door: str = "",
    seconds: limits.Seconds = limits.SECONDS,
    options: Sequence[tuple[str, int]] = limits.OPTIONS,
) -> AsyncIterator[str]:
    """Serve an agent with health and reflection, behind its limits; where it is served."""
    handlers = Handlers(AuditLog(open_audit(folder)).record, seconds)
    remembered = Remembered(operations=host.transactions.operations_of, changes=host.changes.remembered)
    access = access or Access(Everybody(name="a test", role=Role.ADMIN), remembered)
    found = offered(host, kind, folder)
    server = handlers.make_server(access, found, options)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    names = [each.descriptor.full_name for each in found]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    target = door or f"unix:{folder}/fuzz.sock"
    port = server.add_insecure_port(target)
    await server.start()
    try:
        yield target.removesuffix("0") + str(port) if door.endswith(":0") else target
    finally:
        await server.stop(grace=None)
        await handlers.finish()


async def ask(channel: grpc.aio.Channel, asked: Asked) -> Ended:
    """Call any RPC with any messages; of a stream of answers a few are read."""
    method = asked.method
    kinds = (channel.unary_unary, channel.unary_stream, channel.stream_unary, channel.stream_stream)
    make: Any = kinds[2 * method.client_streaming + method.server_streaming]
    answer = GetMessageClass(method.output_type)
    call = make(path_of(method), GetMessageClass(method.input_type).SerializeToString, answer.FromString)
    ended = call(iter(asked.requests) if method.client_streaming else asked.requests[0], timeout=SECONDS)
    answers: list[Message] = []
    try:
        if method.server_streaming:
            await _read_some(ended, answers, 1 if method.name == "Watch" else 3)
        else:
            answers.append(await ended)
    except grpc.aio.AioRpcError as error:
        return _failed(error)
    return Ended(code=grpc.StatusCode.OK, message="", domain="", metadata={}, answers=answers)


async def _read_some(ended: Any, answers: list[Message], most: int) -> None:
    while len(answers) < most:
        answer = await ended.read()
        if answer is grpc.aio.EOF:
            code = await ended.code()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    code, await ended.initial_metadata(), await ended.trailing_metadata(), await ended.details()
                )
            return
        answers.append(answer)
    ended.cancel()


def _failed(error: grpc.aio.AioRpcError) -> Ended:
    info, status = error_details_pb2.ErrorInfo(), None
    with contextlib.suppress(ValueError):  # gRPC has put a status of its own in place of ours
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # as in agent_common.grpc_errors
    for detail in status.details if status else ():
        detail.Unpack(info)
    return Ended(
        code=error.code(),
        message=error.details() or "",
        domain=info.domain,
        metadata=dict(info.metadata),
        answers=[],
    )


def leaves_something(ended: Ended) -> bool:
    """Whether an error says that it left something changed."""
    return UNFINISHED in ended.metadata


def all_methods(kind: Kind, folder: Path) -> list[MethodDescriptor]:
    """Return every RPC that an agent of a kind serves, health and reflection too."""
    return methods(offered(make_host(kind), kind, folder))


def good_request(method: MethodDescriptor, kind: Kind) -> Message:
    """Return a request that makes sense, or an empty one."""
    texts = MORE | (asking.DIRECTOR if kind is Kind.DIRECTOR else asking.REAL_SERVER)
    return asking.filled(GetMessageClass(method.input_type)(), texts.get(short(method), ""))


def tamed(message: Message) -> Message:
    """Return a message that neither reaches out of this host nor asks to wait: CheckListener would do both."""
    if message.DESCRIPTOR.name == "CheckListenerRequest":
        checked: Any = message
        if 0 < checked.wait.seconds <= 60 or 0 < checked.wait.nanos < 10**9:
            checked.wait.Clear()
        try:
            if not ipaddress.ip_address(checked.address).is_loopback:
                checked.address = "127.0.0.1"
        except ValueError:
            pass
    return message
