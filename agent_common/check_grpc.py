"""A check by gRPC: passes when the health service (grpc.health.v1) says SERVING."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from agent_common.check import GrpcCheck, Tls
from agent_common.check_socket import CheckSocket, FailedError, over_tcp, shown
from agent_common.check_tls import TlsContexts, start_tls
from agent_common.checker import Answer, Target
from agent_common.virtual_server import IpAddress, format_endpoint

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # what another connection of this process has met is not ours
    ("grpc.max_receive_message_length", 64 * 1024),
)

_PROBE_SECONDS = 1.0
"""So long at most it is looked for why there is no connection, of what is left of the check's time."""


async def check_grpc(kind: GrpcCheck, target: Target, seconds: float, contexts: TlsContexts) -> Answer:
    """Ask once, over a connection of its own."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    try:
        channel = _open(kind, target, seconds)
    except FailedError as error:
        return Answer(passed=False, detail=str(error))
    try:
        async with asyncio.timeout(seconds):
            return await _ask(channel, kind, seconds)
    except TimeoutError:
        return Answer(passed=False, detail=f"no answer within {seconds:g} s")
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return Answer(passed=False, detail=_failure(kind, error, seconds))
        why = await _why_unavailable(kind, target, end - loop.time(), contexts)
        if loop.time() >= end:
            why = f"no answer within {seconds:g} s"
        return Answer(passed=False, detail=why or f"no gRPC: {grpc_problem(error)}")
    finally:
        await channel.close()


async def _ask(channel: grpc.aio.Channel, kind: GrpcCheck, seconds: float) -> Answer:
    request = health_pb2.HealthCheckRequest(service=kind.service)
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    response: health_pb2.HealthCheckResponse | None = await check(request, timeout=seconds)
    if response is None:  # grpcio's word for what it cannot read
        return Answer(passed=False, detail="the answer is no HealthCheckResponse")
    codes = health_pb2.HealthCheckResponse.ServingStatus
    if response.status == health_pb2.HealthCheckResponse.SERVING:
        return Answer(passed=True, detail="SERVING")
    known = response.status in codes.values()
    return Answer(passed=False, detail=codes.Name(response.status) if known else f"status {response.status}")


def grpc_target(address: IpAddress, port: int) -> str:
    """Return an address and port as gRPC takes them without asking a resolver."""
    return f"ipv{address.version}:{format_endpoint(address, port)}"


def _open(kind: GrpcCheck, target: Target, seconds: float) -> grpc.aio.Channel:
    where = grpc_target(target.address, target.port)
    options = (*CHANNEL_OPTIONS, connecting_within(seconds))
    if kind.tls is None:
        return grpc.aio.insecure_channel(where, options=options)
    credentials = grpc.ssl_channel_credentials(root_certificates=_roots(kind.tls))
    named = ("grpc.ssl_target_name_override", kind.tls.server_name)
    return grpc.aio.secure_channel(where, credentials, options=(*options, named))


def connecting_within(seconds: float) -> tuple[str, int]:
    """Return the option that ends an attempt to connect; else it goes on for 20 s, also when its channel is closed."""
    return "grpc.min_reconnect_backoff_ms", max(int(seconds * 1000), 1)


def _roots(tls: Tls) -> bytes | None:
    """Return the CAs of the file, or nothing: gRPC takes the host's then."""
    if not tls.ca_file:
        return None
    try:
        return Path(tls.ca_file).read_bytes()
    except OSError as error:
        raise FailedError(f"cannot read the CA file {tls.ca_file}: {error.strerror}") from error


def grpc_problem(error: grpc.aio.AioRpcError) -> str:
    """Return what gRPC says of a failure, without the address that was asked."""
    said = (error.details() or "").rpartition("last error: ")[2]
    return shown(re.sub(r"ipv[46]:\S+ ", "", said))


def _failure(kind: GrpcCheck, error: grpc.aio.AioRpcError, seconds: float) -> str:
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {seconds:g} s"
        case grpc.StatusCode.UNIMPLEMENTED:
            return "the server has no health service"
        case grpc.StatusCode.NOT_FOUND:
            return f"the server does not know the service {shown(kind.service)!r}"
        case code:
            return f"{code.name}: {grpc_problem(error)}"


async def _why_unavailable(kind: GrpcCheck, target: Target, seconds: float, contexts: TlsContexts) -> str:
    """Return why no connection can be made, as far as one more try by hand shows it; else nothing."""

    async def talk(connection: CheckSocket) -> Answer:
        if kind.tls is not None:
            await start_tls(connection, kind.tls, contexts)
        return Answer(passed=True)

    return (await over_tcp(target, max(min(seconds, _PROBE_SECONDS), 0.0), talk)).detail
