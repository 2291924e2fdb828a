"""Checks that are asked of a real server's agent: whether it can serve, and what it is like on the VIP's path."""

from __future__ import annotations

import asyncio
import ssl

import grpc
from lvsagent.v1 import backend_service_pb2, backend_service_pb2_grpc, virtual_server_pb2

from agent_common import wire
from agent_common.check import AgentCheck, Check, Kind
from agent_common.check_grpc import grpc_problem
from agent_common.check_socket import CheckSocket, FailedError, over_tcp
from agent_common.check_tls import certificate_problem, tls_problem
from agent_common.checker import Answer, Target
from agent_common.destination import Forwarding
from agent_common.endpoint import TlsFiles
from agent_common.errors import InvalidInputError
from agent_common.grpc_errors import from_rpc_error
from agent_common.health import WeightSource
from agent_common.virtual_server import FirewallMark, format_endpoint
from agent_common.wire_check import duration, pack_check
from agent_common.wire_health import pack_dynamic
from agent_director.agent_channels import AgentChannels, Where

_PROBE_SECONDS = 0.5
"""So long at most it is looked for why there is no connection, of what is left of the check's time."""

_Request = backend_service_pb2.CheckBackendRequest
_Response = backend_service_pb2.CheckBackendResponse
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class AgentChecks:
    """agent_common.checker.Checker for what a real server's agent is asked: kind agent, and all through the VIP."""

    def __init__(self, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._channels = AgentChannels(tls)

    async def __call__(self, kind: Kind, target: Target, seconds: float) -> Answer:
        """Ask once; a connection that was lost since it was last used is made anew."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        where = (target.address, target.agent_port)
        agent = f"the real server's agent at {format_endpoint(*where)}"
        try:
            async with asyncio.timeout(seconds):
                return _answer(await self._ask(where, _request(kind, target, seconds), seconds), target)
        except TimeoutError:
            self._channels.drop(where)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                return Answer(passed=False, detail=_failure(error, agent, seconds))
            why = await self._why(target, end - loop.time()) or grpc_problem(error)
            if loop.time() < end:
                return Answer(passed=False, detail=f"cannot reach {agent}: {why}")
        except InvalidInputError as error:  # the director's own files
            return Answer(passed=False, detail=error.message)
        return Answer(passed=False, detail=f"no answer from {agent} within {seconds:g} s")

    async def close(self) -> None:
        """Close every connection."""
        await self._channels.close()

    async def _ask(self, where: Where, request: _Request, seconds: float) -> _Response:
        was_kept = where in self._channels
        try:
            return await self._call(where, request, seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or not was_kept:
                raise
        return await self._call(where, request, seconds)

    async def _call(self, where: Where, request: _Request, seconds: float) -> _Response:
        with self._channels.using(where, seconds) as channel:
            try:
                method = backend_service_pb2_grpc.BackendServiceStub(channel).CheckBackend
                response: _Response = await method(request, timeout=seconds)
            except grpc.aio.AioRpcError as error:
                if error.code() in _LOST:
                    self._channels.drop(where)
                raise
            return response

    async def _why(self, target: Target, seconds: float) -> str:
        """Return why there is no connection, as far as one more try by hand shows it; else nothing."""
        tls = self._tls

        async def talk(connection: CheckSocket) -> Answer:
            if tls is not None:
                await _shake_hands(connection, tls, str(target.address))
            return Answer(passed=True)

        at_agent = Target(address=target.address, port=target.agent_port, virtual_server=target.virtual_server)
        return (await over_tcp(at_agent, max(min(seconds, _PROBE_SECONDS), 0.0), talk)).detail


def _request(kind: Kind, target: Target, seconds: float) -> _Request:
    """Return what is asked: of the VIP, where packets for it reach the real server, else of its own address.

    A firewall mark does not say what the VIP is, nor which protocol is meant.
    """
    # What is late at the real server shall be said by its agent, in time for this side.
    own_seconds = max(seconds - min(0.1 * seconds, 0.2), 0.01)
    key = target.virtual_server
    has_vip = target.forwarding in (Forwarding.DIRECT_ROUTING, Forwarding.TUNNELING)
    request = _Request(address=str(target.address), port=target.port, timeout=duration(min(own_seconds, 60.0)))
    request.protocol = virtual_server_pb2.PROTOCOL_TCP
    if not isinstance(key, FirewallMark):
        request.protocol = wire.pack_enum(wire.PROTOCOLS, key.protocol)
        if has_vip:
            request.address, request.is_vip = str(key.address), True
    if not isinstance(kind, AgentCheck):
        request.check.CopyFrom(pack_check(Check(kind=kind, timeout=own_seconds, interval=max(own_seconds, 0.1))))
    dynamic = target.dynamic_weight
    if dynamic is not None and dynamic.source in (WeightSource.HTTP_HEADER, WeightSource.HTTP_BODY):
        request.dynamic_weight.CopyFrom(pack_dynamic(dynamic))
    return request


def _answer(response: _Response, target: Target) -> Answer:
    percent = response.weight_percent if response.HasField("weight_percent") else None
    if target.dynamic_weight is not None and target.dynamic_weight.source is WeightSource.AGENT_LOAD:
        percent = max(100 - response.load_percent, 0)
    return Answer(passed=response.passed, detail=response.detail, percent=percent)


def _failure(error: grpc.aio.AioRpcError, agent: str, seconds: float) -> str:
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer from {agent} within {seconds:g} s"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"cannot ask {agent}: the program there is no such agent, or an older one"
    said = from_rpc_error(error)
    return f"cannot ask {agent}: {said.message if said else grpc_problem(error)}"


async def _shake_hands(connection: CheckSocket, tls: TlsFiles, name: str) -> None:
    """Speak TLS as the director does; raises FailedError for what is wrong with either side's certificate."""
    connection.awaits = "TLS handshake"
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
        context.load_cert_chain(str(tls.cert), str(tls.key))
        context.set_alpn_protocols(["h2"])
        await connection.start_tls(context, name)
        connection.awaits = "answer"
        # In TLS 1.3 the server looks at the client's certificate after the handshake: its refusal comes with a read.
        if not await connection.receive():
            raise FailedError("it does not accept the director's certificate")
    except ssl.SSLCertVerificationError as error:
        raise FailedError(f"its {certificate_problem(error, name)}") from error
    except ssl.SSLError as error:
        raise FailedError(tls_problem(error)) from error
