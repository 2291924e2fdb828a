"""Whether something on this host takes what arrives at an address and port: its sockets, and for TCP a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from agent_common.address import Addresses
from agent_common.procfs_sockets import accepts_tcp
from agent_common.sockets import Acceptance, Binding, Listener, Sockets, listening_on
from agent_common.virtual_server import IpAddress, Protocol
from agent_common.worker import Run

CONNECT_SECONDS = 1.0

Accepts = Callable[[IpAddress, int, float], Awaitable[Acceptance]]
"""Asks whether a TCP connection is accepted within so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """What was found; detail says for people why nothing listens."""

    listening: bool
    wildcard: bool = False
    detail: str = ""


class Listeners:
    """Looks for what listens on this host; nobody shall have it knock at others' doors."""

    def __init__(self, addresses: Addresses, sockets: Sockets, run: Run, accepts: Accepts = accepts_tcp) -> None:
        self._accepts = accepts
        self._addresses = addresses
        self._sockets = sockets
        self._run = run

    async def look(self, protocol: Protocol, address: IpAddress, port: int) -> Listening:
        """Look once, at the sockets and at whether a connection is accepted."""
        listeners, is_here = await self._run(
            lambda: (self._sockets.listeners(protocol), self._addresses.route_to(address).local)
        )
        if not is_here:
            return Listening(listening=False, detail=_not_here(address))
        binding = listening_on(listeners, protocol, address, port)
        listening, detail = binding is not Binding.NONE, ""
        if protocol is Protocol.TCP:
            acceptance = await self._accepts(address, port, CONNECT_SECONDS)
            listening, detail = acceptance.accepted, acceptance.detail
        if not listening:
            detail = _why_not(listeners, protocol, port, detail)
        return Listening(listening=listening, wildcard=binding is Binding.WILDCARD, detail=detail)

    async def is_here(self, address: IpAddress) -> str:
        """Return why an address is not this host's own, or nothing."""
        local = await self._run(lambda: self._addresses.route_to(address).local)
        return "" if local else _not_here(address)

    async def problem(self, protocol: Protocol, address: IpAddress, port: int, seconds: float) -> str:
        """Return why nothing takes what arrives at an own address, or nothing.

        For who asks often: the table of TCP sockets, which may have a hundred thousand lines, is only read where a
        connection was not accepted.
        """
        if protocol is Protocol.TCP:
            acceptance = await self._accepts(address, port, seconds)
            if acceptance.accepted:
                return ""
            return _why_not(await self._listeners(protocol), protocol, port, acceptance.detail)
        listeners = await self._listeners(protocol)
        if listening_on(listeners, protocol, address, port) is not Binding.NONE:
            return ""
        return _why_not(listeners, protocol, port, "")

    async def _listeners(self, protocol: Protocol) -> list[Listener]:
        return await self._run(lambda: self._sockets.listeners(protocol))


def _not_here(address: IpAddress) -> str:
    return f"{address} is not an address of this host"


def _why_not(listeners: Iterable[Listener], protocol: Protocol, port: int, detail: str) -> str:
    elsewhere = sorted({str(each.address) for each in listeners if each.port == port})
    if elsewhere:
        return f"something listens on port {port} of {', '.join(elsewhere)} only"
    return detail or f"no {protocol.name} socket is bound to port {port}"
