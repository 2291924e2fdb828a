"""BackendService: whether this real server can serve what arrives for a VIP. Unpack, look, pack."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from lvsagent.v1 import backend_service_pb2, backend_service_pb2_grpc

from agent_common import wire
from agent_common.check import Check, DnsCheck, GrpcCheck, HttpCheck, SmtpCheck, TcpCheck, UdpCheck, check_seconds
from agent_common.check_input import check_header_name
from agent_common.checker import Checker, Target
from agent_common.errors import ExhaustedError, InvalidInputError, Reason
from agent_common.handlers import Context
from agent_common.health import DynamicWeight
from agent_common.listening import Listeners
from agent_common.virtual_server import IpAddress, Protocol, ServiceAddress, check_port, parse_unicast
from agent_common.wire_check import seconds_of, unpack_check
from agent_common.wire_health import unpack_dynamic
from agent_realserver.backend import HeldHere, load_percent

MAX_CHECKS = 256
"""So many are made at a time; the one beyond is refused."""

_GRACE_SECONDS = 0.05
"""What is late itself says better why."""

_KINDS = (TcpCheck, HttpCheck, GrpcCheck, DnsCheck, UdpCheck, SmtpCheck)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    address: IpAddress
    is_vip: bool
    protocol: Protocol
    port: int
    seconds: float
    check: Check | None
    dynamic_weight: DynamicWeight | None


class BackendServicer(backend_service_pb2_grpc.BackendServiceServicer):
    """Serves BackendService."""

    def __init__(self, here: HeldHere, listeners: Listeners, checker: Checker) -> None:
        self._here = here
        self._listeners = listeners
        self._checker = checker
        self._running = 0

    async def CheckBackend(
        self, request: backend_service_pb2.CheckBackendRequest, context: Context
    ) -> backend_service_pb2.CheckBackendResponse:
        """Look, and check."""
        asked = _unpack(request)
        if self._running >= MAX_CHECKS:
            raise ExhaustedError(f"{MAX_CHECKS} checks are made here already", Reason.TOO_MANY_CALLS)
        self._running += 1
        try:
            async with asyncio.timeout(asked.seconds + _GRACE_SECONDS):
                return await self._look(asked)
        except TimeoutError:
            late = f"the real server's agent has not come to an end within {asked.seconds:g} s"
            return _response(late)
        finally:
            self._running -= 1

    async def _look(self, asked: _Asked) -> backend_service_pb2.CheckBackendResponse:
        address = asked.address
        problem = await (self._here.problem(address) if asked.is_vip else self._listeners.is_here(address))
        if problem:
            return _response(problem)
        found = [f"VIP {address} on lo and silent"] if asked.is_vip else []
        if asked.check is not None:
            return await self._check(asked, asked.check)
        if asked.port:
            if problem := await self._listeners.problem(asked.protocol, address, asked.port, asked.seconds):
                return _response(problem)
            found.append(f"something listens on {asked.protocol.name.lower()} port {asked.port}")
        return _response("", ", ".join(found))

    async def _check(self, asked: _Asked, check: Check) -> backend_service_pb2.CheckBackendResponse:
        key = ServiceAddress(protocol=asked.protocol, address=asked.address, port=asked.port)
        target = Target(address=asked.address, port=asked.port, virtual_server=key, dynamic_weight=asked.dynamic_weight)
        answer = await self._checker(check.kind, target, min(check.timeout, asked.seconds))
        response = _response("" if answer.passed else answer.detail, answer.detail)
        if answer.percent is not None:
            response.weight_percent = min(max(answer.percent, 0), 2**32 - 1)
        return response


def _response(problem: str, found: str = "") -> backend_service_pb2.CheckBackendResponse:
    return backend_service_pb2.CheckBackendResponse(
        passed=not problem, detail=problem or found, load_percent=load_percent()
    )


def _unpack(request: backend_service_pb2.CheckBackendRequest) -> _Asked:
    seconds = seconds_of(request, "timeout", 2.0)
    check_seconds("timeout", seconds, 0.01, 60)
    has_check = request.HasField("check")
    return _Asked(
        address=parse_unicast(request.address, "address"),
        is_vip=request.is_vip,
        protocol=wire.unpack_enum(wire.PROTOCOLS, request.protocol, "protocol"),
        port=check_port(request.port, "port", zero=not has_check),
        seconds=seconds,
        check=_unpack_check(request) if has_check else None,
        dynamic_weight=_unpack_dynamic(request) if request.HasField("dynamic_weight") else None,
    )


def _unpack_check(request: backend_service_pb2.CheckBackendRequest) -> Check:
    """Read the check; one of another address than a VIP's would reach what trusts this host's own questions."""
    if not request.is_vip:
        raise InvalidInputError("check", "check: only with is_vip")
    check = unpack_check(request.check)
    if not isinstance(check.kind, _KINDS):
        raise InvalidInputError("check.kind", "check.kind: only tcp, http, grpc, dns, udp and smtp are made here")
    return replace(check, through_vip=True).check()


def _unpack_dynamic(request: backend_service_pb2.CheckBackendRequest) -> DynamicWeight:
    dynamic = unpack_dynamic(request.dynamic_weight, "dynamic_weight")
    if dynamic.header:
        check_header_name("dynamic_weight.http_header", dynamic.header)
    return dynamic
