"""What the host's own programs listen on and are connected to. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol as TypingProtocol

from agent_common.virtual_server import IpAddress, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket that takes what arrives: TCP in state LISTEN, SCTP endpoint, UDP bound and not connected."""

    protocol: Protocol
    address: IpAddress
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A TCP connection of a program on this host."""

    local_address: IpAddress
    local_port: int
    remote_address: IpAddress
    remote_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Whether a connection was accepted; detail says for people why not, empty if it was."""

    accepted: bool
    detail: str = ""


class Binding(enum.Enum):
    """How something listens on an address and port."""

    NONE = enum.auto()
    WILDCARD = enum.auto()
    """Bound to 0.0.0.0 or ::; a UDP server then answers from the address that the route gives, not from the VIP."""
    EXACT = enum.auto()


def listening_on(listeners: Iterable[Listener], protocol: Protocol, address: IpAddress, port: int) -> Binding:
    """Return how something listens there; exact wins over wildcard, as in the kernel.

    The wildcard :: counts for IPv4 too: /proc does not show IPV6_V6ONLY.
    """
    found = Binding.NONE
    for each in listeners:
        if each.protocol is not protocol or each.port != port:
            continue
        if each.address == address:
            return Binding.EXACT
        if each.address.is_unspecified and each.address.version in (6, address.version):
            found = Binding.WILDCARD
    return found


class Sockets(TypingProtocol):
    """Sockets of the host. Synchronous; errors: RefusedError with KERNEL_REFUSED."""

    def listeners(self, protocol: Protocol) -> list[Listener]:
        """Return what listens, both families."""
        ...

    def established_to(self, vip: IpAddress) -> list[Connection]:
        """Return the open TCP connections of programs on this host whose remote address is the VIP."""
        ...
