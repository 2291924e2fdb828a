"""Addresses, host routes and interfaces of a host: types, and what an adapter to them does. No I/O."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Protocol

from agent_common.virtual_server import IpAddress

LOOPBACK = "lo"

TUNNEL_KINDS = frozenset({"ipip", "sit", "gre", "ip6gre", "ip6tnl"})
"""Kinds of interfaces (IFLA_INFO_KIND) that take packets of the forwarding method tun; fou and gue use some."""


class Placement(enum.Enum):
    """Whose VIP it is; decides how the address is added (KERNEL.md)."""

    DIRECTOR = enum.auto()
    """On an interface; IPv6 with preferred lifetime 0, never to be the source of the director's own connections."""
    REAL_SERVER = enum.auto()
    """On lo, with the kernel's defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceAddress:
    """An address on an interface, as `ip address` shows it.

    preferred_lifetime is in seconds, None means for ever. scope is a number of include/uapi/linux/rtnetlink.h
    (0 global, 253 link, 254 host). label is IPv4's alone. A tentative address is not usable yet; with dadfailed it
    never will be.
    """

    address: IpAddress
    prefix_length: int
    device: str
    scope: int = 0
    label: str = ""
    tentative: bool = False
    dadfailed: bool = False
    preferred_lifetime: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTo:
    """How the host would reach an address, as `ip route get` says; gateway None: on link, local, or not at all."""

    reachable: bool
    local: bool = False
    gateway: IpAddress | None = None
    device: str = ""
    source: IpAddress | None = None
    mtu: int = 0
    """Of the route itself, in bytes; 0: that of its interface counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An interface: kind is IFLA_INFO_KIND (veth, bridge, ipip, gre …), else loopback, ether, or the ARPHRD number."""

    name: str
    kind: str
    does_arp: bool
    """Neither IFF_NOARP nor loopback."""
    up: bool
    mtu: int = 1500

    @property
    def is_tunnel(self) -> bool:
        """Whether packets of the forwarding method tun can come in here."""
        return self.kind in TUNNEL_KINDS


def find_address(addresses: list[InterfaceAddress], address: IpAddress) -> InterfaceAddress | None:
    """Return where an address is, or None; it counts as present whatever its prefix length, on whichever interface."""
    return next((each for each in addresses if each.address == address), None)


class Addresses(Protocol):
    """The host's addresses, routes and interfaces. Synchronous; every method belongs to one worker thread.

    Errors of all methods: RefusedError with NO_CAPABILITY (CAP_NET_ADMIN), NO_DEVICE or KERNEL_REFUSED; DiffersError
    for what is there already; NotFoundError for a removal of what is not there.
    """

    def addresses(self) -> list[InterfaceAddress]:
        """Return every address of every interface, in the kernel's order."""
        ...

    def add_vip(self, address: IpAddress, device: str, placement: Placement) -> None:
        """Add an address with the longest prefix, as `ip address add V/32 dev DEV` and `… V/128 …` would.

        A director's IPv6 address gets `preferred_lft 0`; it is tentative until duplicate address detection has ended.
        Neither this nor the kernel announces it.
        """
        ...

    def remove_address(self, address: IpAddress, prefix_length: int, device: str) -> None:
        """Remove exactly this address."""
        ...

    def add_host_route(self, address: ipaddress.IPv4Address, device: str) -> None:
        """Add a route as `ip route add V scope host dev DEV` would (main table, protocol boot)."""
        ...

    def remove_host_route(self, address: ipaddress.IPv4Address, device: str) -> None:
        """Remove exactly the route that add_host_route adds; one of another scope or protocol is NotFoundError."""
        ...

    def has_host_route(self, address: ipaddress.IPv4Address, device: str) -> bool:
        """Whether the main table has an on-link route to this one address here, whatever its scope and protocol."""
        ...

    def has_own_host_route(self, address: ipaddress.IPv4Address, device: str) -> bool:
        """Whether exactly the route is there that add_host_route adds."""
        ...

    def route_to(self, address: IpAddress) -> RouteTo:
        """Return how the host reaches an address; unreachable, prohibited and blackholed ones are not reachable."""
        ...

    def next_hops(self) -> frozenset[IpAddress]:
        """Return the gateways of unicast routes of all tables, both families; multipath too.

        Routes by next-hop objects only while net.ipv4.nexthop_compat_mode is 1, as it is by default.
        """
        ...

    def devices(self) -> list[Device]:
        """Return every interface, lo too."""
        ...

    def close(self) -> None:
        """Release the socket."""
        ...
