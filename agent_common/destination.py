"""Destinations: the real servers behind a virtual server, and their rules. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from agent_common.errors import InvalidInputError
from agent_common.statistics import Statistics
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    IpAddress,
    ServiceAddress,
    VirtualServerKey,
    check_port,
    family_of,
    format_endpoint,
)

MAX_WEIGHT = 2**31 - 1
"""The kernel keeps weights in an int and refuses negative ones with ERANGE."""

MAX_THRESHOLD = 2**31 - 1
"""ipvsadm 1.31 takes no larger thresholds, though its manual page says 65535; the kernel keeps them in a __u32."""


class Forwarding(enum.IntEnum):
    """Forwarding methods by the kernel's numbers (include/uapi/linux/ip_vs.h, IP_VS_CONN_F_FWD_MASK)."""

    MASQUERADING = 0
    LOCAL_NODE = 1
    TUNNELING = 2
    DIRECT_ROUTING = 3
    BYPASS = 4


FORWARDING_NAMES = {"dr": Forwarding.DIRECT_ROUTING, "nat": Forwarding.MASQUERADING, "tun": Forwarding.TUNNELING}
"""What the command line calls them."""


def forwarding_name(forwarding: Forwarding) -> str:
    """Return the command line's word for a method, or the kernel's own for the two that nobody asks for."""
    words = {number: word for word, number in FORWARDING_NAMES.items()}
    return words.get(forwarding, forwarding.name.lower())


class TunnelType(enum.IntEnum):
    """Kinds of tunnel by the kernel's numbers (IP_VS_CONN_F_TUNNEL_TYPE_*)."""

    IPIP = 0
    GUE = 1
    GRE = 2


class TunnelChecksum(enum.IntEnum):
    """Checksum of the tunnel's header by the kernel's numbers (IP_VS_TUNNEL_ENCAP_FLAG_*)."""

    NONE = 0
    FULL = 1
    REMOTE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """How packets of a tunnelled destination are wrapped; the port is GUE's."""

    type: TunnelType = TunnelType.IPIP
    port: int = 0
    checksum: TunnelChecksum = TunnelChecksum.NONE

    def overhead(self, outer: Family) -> int:
        """Return how many bytes it adds to a packet that is sent to an address of this family."""
        header = 20 if outer is Family.IPV4 else 40
        match self.type:
            case TunnelType.GRE:
                return header + (4 if self.checksum is TunnelChecksum.NONE else 8)
            case TunnelType.GUE:
                return header + (12 if self.checksum is not TunnelChecksum.REMOTE else 20)  # UDP 8, GUE 4, options 8
        return header


PLAIN_TUNNEL = Tunnel()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class DestinationKey:
    """A real server's address and port within a virtual server."""

    address: IpAddress
    port: int

    def __hash__(self) -> int:
        return hash((int(self.address), self.port))  # ipaddress makes a hexadecimal text of it first: twenty times

    def __str__(self) -> str:
        return format_endpoint(self.address, self.port)


def destination_order(key: DestinationKey) -> tuple[int, int, int]:
    """Sort key for lists; IPv4 and IPv6 addresses do not compare with each other."""
    return (key.address.version, int(key.address), key.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A destination's configuration. The weight is the operator's; effective says what the kernel is given."""

    key: DestinationKey
    forwarding: Forwarding = Forwarding.DIRECT_ROUTING
    weight: int = 1
    draining: bool = False
    upper_threshold: int = 0
    lower_threshold: int = 0
    tunnel: Tunnel = PLAIN_TUNNEL

    def check(self, virtual_server: VirtualServerKey) -> Destination:
        """Raise InvalidInputError unless ipvsadm, too, would take this combination; return the destination."""
        check_port(self.key.port, "port")
        self.check_ranges()
        if self.lower_threshold > self.upper_threshold:  # the kernel's rule, ERANGE there
            raise InvalidInputError("lower_threshold", "lower_threshold: must not be above upper_threshold")
        if self.forwarding in (Forwarding.LOCAL_NODE, Forwarding.BYPASS):
            raise InvalidInputError("forwarding_method", "forwarding_method: only dr, nat and tun can be asked for")
        self._check_addresses(virtual_server)
        self._check_tunnel()
        return self

    def check_ranges(self) -> None:
        """Raise InvalidInputError for a number that is wrong whatever the other fields are."""
        _check_range("weight", self.weight, MAX_WEIGHT)
        _check_range("upper_threshold", self.upper_threshold, MAX_THRESHOLD)
        _check_range("lower_threshold", self.lower_threshold, MAX_THRESHOLD)

    def _check_addresses(self, virtual_server: VirtualServerKey) -> None:
        if family_of(self.key.address) is not virtual_server.family and self.forwarding is not Forwarding.TUNNELING:
            raise InvalidInputError(
                "address",
                f"address: {self.key.address} and {virtual_server} differ in family; only tunnelling joins them",
            )
        translates = self.forwarding is Forwarding.MASQUERADING or isinstance(virtual_server, FirewallMark)
        if isinstance(virtual_server, ServiceAddress) and not translates and self.key.port != virtual_server.port:
            raise InvalidInputError(
                "port",
                f"port: {forwarding_name(self.forwarding)} cannot translate ports: {self.key} must have port "
                f"{virtual_server.port}, or use nat",
            )

    def _check_tunnel(self) -> None:
        tunnel = self.tunnel
        if tunnel is PLAIN_TUNNEL:
            return
        if tunnel != PLAIN_TUNNEL and self.forwarding is not Forwarding.TUNNELING:
            raise InvalidInputError("tunnel", "tunnel: only with forwarding method tun")
        if tunnel.type is TunnelType.GUE:
            check_port(tunnel.port, "tunnel.port", zero=False)
        elif tunnel.port:
            raise InvalidInputError("tunnel.port", f"tunnel.port: {tunnel.type.name.lower()} takes no port")
        if tunnel.type is TunnelType.IPIP and tunnel.checksum is not TunnelChecksum.NONE:
            raise InvalidInputError("tunnel.checksum", "tunnel.checksum: ipip has none")
        if tunnel.checksum is TunnelChecksum.REMOTE and tunnel.type is not TunnelType.GUE:
            raise InvalidInputError("tunnel.checksum", "tunnel.checksum: remote checksum offload needs gue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the checks have made of a destination: so many percent of the operator's weight, 0 for one that is out.

    removed: it is out, and not in the kernel at all.
    """

    percent: int = 100
    removed: bool = False

    @property
    def is_out(self) -> bool:
        """Whether it gets no connections, whatever weight the operator wants."""
        return self.percent == 0


WHOLE = Standing()
"""As the operator wants it."""


def effective(destination: Destination, standing: Standing = WHOLE) -> Destination:
    """Return what the kernel is to have of a destination that was committed, unless it is removed as long as it is out.

    The weight is 0 while it drains or is out; else it is a part of the operator's, and at least 1 of what is not 0.
    This alone makes intent into what the kernel is given and compared with: by every write, restore, drift and repair.
    """
    weight = 0 if destination.draining else destination.weight
    if weight and standing.percent != WHOLE.percent:
        weight = min(max(1, weight * standing.percent // 100), MAX_WEIGHT) if standing.percent else 0
    if weight == destination.weight and not destination.draining:
        return destination
    return replace(destination, weight=weight, draining=False)


def _check_range(field: str, value: int, largest: int) -> None:
    if not 0 <= value <= largest:
        raise InvalidInputError(field, f"{field}: {value} is out of range (0 to {largest})")


class Verdict(enum.Enum):
    """What checks say of a destination."""

    UNCHECKED = "unchecked"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationHealth:
    """What checks say of a destination, and what follows; times are seconds of the wall clock, took is in seconds.

    proven: checks have said so, and it is not assumed. against: so many checks in a row have said the other thing.
    percent and removed: how it stands. note: why that is not what the verdict means.
    """

    verdict: Verdict
    proven: bool = False
    since: float = 0.0
    detail: str = ""
    checked: float | None = None
    took: float = 0.0
    against: int = 0
    percent: int = 100
    removed: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStatus:
    """What the kernel says of a destination: configuration, its weight now, connection counts, and its counters.

    health: what its checks say. absent: it is out by removal, and in no table of the kernel.
    """

    destination: Destination
    current_weight: int
    active: int
    inactive: int
    persistent: int
    managed: bool = False
    statistics: Statistics | None = None
    health: DestinationHealth | None = None
    absent: bool = False

    @property
    def is_out(self) -> bool:
        """Whether its checks, and not the operator, keep it from getting connections."""
        return self.health is not None and self.health.percent == 0
