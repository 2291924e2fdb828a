"""HostService: what an agent is and what its host looks like. Unpack, call, pack."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lvsagent.v1 import destination_pb2, host_service_pb2, host_service_pb2_grpc, virtual_server_pb2

from agent_common import wire
from agent_common.address import Addresses
from agent_common.errors import ExhaustedError, InvalidInputError, NotFoundError, Reason
from agent_common.gate import call
from agent_common.handlers import Context
from agent_common.health import HealthPolicy
from agent_common.listening import Listeners
from agent_common.procfs_settings import forwarding_settings
from agent_common.sockets import Sockets
from agent_common.version import VERSION
from agent_common.virtual_server import IpAddress, Protocol, VirtualServerKey, check_port, parse_address
from agent_common.wire_health import pack_policy
from agent_common.worker import Run

ReadServer = Callable[
    [VirtualServerKey], tuple[virtual_server_pb2.VirtualServerStatus, Sequence[destination_pb2.DestinationStatus]]
]
"""Reads a virtual server and its destinations; raises NotFoundError."""

MAX_WAIT_SECONDS = 60.0
MAX_ROUTES = 256
MAX_WAITING = 64
"""So many may wait at a time for something that listens: each asks four times a second."""

_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which agent this is."""

    kind: host_service_pb2.AgentKind.ValueType
    agent_id: str


class HostServicer(host_service_pb2_grpc.HostServiceServicer):
    """Serves HostService; a director's says its version of IPVS ("" without IPVS) and what was left on real servers."""

    def __init__(
        self,
        identity: Identity,
        addresses: Addresses,
        sockets: Sockets,
        run: Run,
        *,
        ipvs_version: Callable[[], str] = lambda: "",
        leftovers: Callable[[], Sequence[tuple[VirtualServerKey, IpAddress]]] = lambda: (),
        problems: Callable[[], Sequence[str]] = lambda: (),
        read_server: ReadServer | None = None,
        read_policy: Callable[[VirtualServerKey], HealthPolicy | None] = lambda key: None,
        settled_fence: Callable[[], int] = lambda: 0,
        certificate_expires: Callable[[], datetime.datetime | None] = lambda: None,
    ) -> None:
        self._certificate_expires = certificate_expires
        self._waiting = 0
        self._settled_fence = settled_fence
        self._read_server = read_server
        self._read_policy = read_policy
        self._identity = identity
        self._addresses = addresses
        self._listeners = Listeners(addresses, sockets, run)
        self._ipvs_version = ipvs_version
        self._leftovers = leftovers
        self._problems = problems
        self._run = run

    async def GetHost(
        self, request: host_service_pb2.GetHostRequest, context: Context
    ) -> host_service_pb2.GetHostResponse:
        """Read the host."""
        peer = peer_address()
        response = await self._run(lambda: self._read(request))
        response.peer_address = peer
        if (expires := self._certificate_expires()) is not None:
            response.certificate_expires.FromDatetime(expires)
        return response

    async def CheckListener(
        self, request: host_service_pb2.CheckListenerRequest, context: Context
    ) -> host_service_pb2.CheckListenerResponse:
        """Ask whether something takes what arrives there."""
        protocol = wire.unpack_enum(wire.PROTOCOLS, request.protocol, "protocol")
        address = parse_address(request.address, "address")
        port = check_port(request.port, "port", zero=False)
        wait = request.wait.ToTimedelta().total_seconds()
        if not 0 <= wait <= MAX_WAIT_SECONDS:
            raise InvalidInputError("wait", f"wait: {wait:g} s is out of range (0 to {MAX_WAIT_SECONDS:g} s)")
        if wait and self._waiting >= MAX_WAITING:
            raise ExhaustedError(f"{MAX_WAITING} callers wait for a listener already", Reason.TOO_MANY_CALLS)
        self._waiting += bool(wait)
        try:
            return await self._until_listening(protocol, address, port, time.monotonic() + wait)
        finally:
            self._waiting -= bool(wait)

    async def _until_listening(
        self, protocol: Protocol, address: IpAddress, port: int, deadline: float
    ) -> host_service_pb2.CheckListenerResponse:
        while True:
            response = await self._look(protocol, address, port)
            left = deadline - time.monotonic()
            if response.listening or left <= 0:
                return response
            await asyncio.sleep(min(_PAUSE_SECONDS, left))

    async def _look(self, protocol: Protocol, address: IpAddress, port: int) -> host_service_pb2.CheckListenerResponse:
        found = await self._listeners.look(protocol, address, port)
        return host_service_pb2.CheckListenerResponse(
            listening=found.listening, wildcard=found.wildcard, detail=found.detail
        )

    def _read(self, request: host_service_pb2.GetHostRequest) -> host_service_pb2.GetHostResponse:
        if len(request.routes_to) > MAX_ROUTES:  # each is a question to the kernel
            raise InvalidInputError("routes_to", f"routes_to: {len(request.routes_to)} are more than {MAX_ROUTES}")
        targets = [parse_address(text, "routes_to") for text in request.routes_to]
        response = host_service_pb2.GetHostResponse(
            kind=self._identity.kind,
            version=VERSION,
            agent_id=self._identity.agent_id,
            hostname=socket.gethostname(),
            ipvs_version=self._ipvs_version(),
            problems=self._problems(),
            fence=self._settled_fence(),
        )
        for each in self._addresses.addresses():
            response.addresses.add(address=str(each.address), prefix_length=each.prefix_length, device=each.device)
        mtus = {device.name: device.mtu for device in self._addresses.devices()} if targets else {}
        for target in targets:
            route = self._addresses.route_to(target)
            response.routes.add(
                destination=str(target),
                reachable=route.reachable,
                local=route.local,
                gateway=str(route.gateway or ""),
                device=route.device,
                source=str(route.source or ""),
                mtu=route.mtu or mtus.get(route.device, 0),
            )
        for key, address in self._leftovers():
            response.leftovers.add(virtual_server=wire.pack_key(key), real_server=str(address))
        for name, value in forwarding_settings().items():
            response.settings.add(name=name, value=value)
        if request.HasField("virtual_server") and self._read_server is not None:
            with contextlib.suppress(NotFoundError):
                key = wire.unpack_key(request.virtual_server, "virtual_server")
                status, destinations = self._read_server(key)
                if (policy := self._read_policy(key)) is not None:
                    response.health.CopyFrom(pack_policy(policy))
                response.virtual_server.CopyFrom(status)
                response.destinations.extend(destinations)
        return response


def peer_address() -> str:
    """Return the address from which a call came: empty on a unix socket. gRPC writes ipv4:A:P and ipv6:%5BA%5D:P."""
    kind, _, rest = urllib.parse.unquote(call().peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = rest.rpartition(":")[0].strip("[]")
    return host.removeprefix("::ffff:")
