"""What a command asks for, checked as far as the command line alone can tell. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent_common.destination import (
    FORWARDING_NAMES,
    MAX_WEIGHT,
    Destination,
    DestinationKey,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.errors import InvalidInputError
from agent_common.scheduler import check_scheduler
from agent_common.vip import VipMode
from agent_common.virtual_server import (
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    check_port,
    parse_endpoint,
)

MIN_LEASE, MAX_LEASE = 5, 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Which real servers behind which virtual server."""

    key: ServiceAddress
    real_servers: tuple[DestinationKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddBackend:
    """What `lvs add-backend` asks for; None leaves what is there. Times are in seconds."""

    backend: Backend
    weight: int | None = None
    scheduler: str | None = None
    forwarding: Forwarding | None = None
    tunnel: Tunnel | None = None
    persistence: Persistence | None = None
    vip_mode: VipMode | None = None
    vip_device: str = ""
    create: bool = True
    ask_real_servers: bool = True
    ready_timeout: float | None = 10.0
    force: bool = False

    def __post_init__(self) -> None:
        _check_range("ready_timeout", self.ready_timeout or 0, 0, 3600)
        if self.scheduler is not None:
            check_scheduler(self.scheduler)
        # An existing virtual server may have the persistence that port 0 needs; only a new one must be given it.
        VirtualServer(
            key=self.backend.key,
            persistence=self.persistence or (Persistence(timeout=300) if not self.backend.key.port else None),
        ).check()
        for key in self.backend.real_servers:
            self.destination(key)

    @property
    def method(self) -> Forwarding:
        """The forwarding method of a new destination."""
        return Forwarding.DIRECT_ROUTING if self.forwarding is None else self.forwarding

    def destination(self, key: DestinationKey) -> Destination:
        """Return one destination as a new one would be; raises InvalidInputError if its rules forbid it."""
        weight = 1 if self.weight is None else self.weight
        tunnel = self.tunnel or Tunnel()
        return Destination(key=key, forwarding=self.method, weight=weight, tunnel=tunnel).check(self.backend.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveBackend:
    """What `lvs remove-backend` asks for. drain_timeout is in seconds; None removes at once."""

    backend: Backend
    drain_timeout: float | None = 60.0
    prune: bool = False
    ask_real_servers: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        _check_range("drain_timeout", self.drain_timeout or 0, 0, 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWeight:
    """What drain, undrain and weight ask for: a weight, or a drain begun or ended.

    wait is in seconds: for the connections of a drain, for the application before an undrain; None does not wait.
    """

    backend: Backend
    weight: int | None = None
    draining: bool | None = None
    wait: float | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 <= self.weight <= MAX_WEIGHT:
            raise InvalidInputError("weight", f"weight: {self.weight} is out of range (0 to {MAX_WEIGHT})")


def parse_protocol(text: str) -> Protocol:
    """Read tcp, udp or sctp."""
    if text.upper() not in Protocol.__members__:
        raise InvalidInputError("protocol", f"protocol: {text!r} is unknown; use tcp, udp or sctp")
    return Protocol[text.upper()]


def parse_backend(vip: str, real_servers: Sequence[str], protocol: str) -> Backend:
    """Read --vip, --rs and --protocol; a real server without a port gets the VIP's, and none may come twice."""
    number = parse_protocol(protocol)
    address, port = parse_endpoint(vip, "vip")
    key = ServiceAddress(protocol=number, address=address, port=port)
    if not real_servers:
        raise InvalidInputError("rs", "rs: must be given")
    found: list[DestinationKey] = []
    for text in real_servers:
        rs_address, rs_port = parse_endpoint(text, "rs", default_port=port)
        destination = DestinationKey(address=rs_address, port=rs_port)
        if destination in found:
            raise InvalidInputError("rs", f"rs: {destination} is given twice")
        if rs_address == address:
            raise InvalidInputError("rs", f"rs: {rs_address} is the VIP itself")
        found.append(destination)
    return Backend(key=key, real_servers=tuple(found))


def parse_forwarding(text: str | None) -> Forwarding | None:
    """Read dr, nat or tun."""
    if text is None:
        return None
    if text not in FORWARDING_NAMES:
        raise InvalidInputError("forward", f"forward: {text!r} is unknown; use dr, nat or tun")
    return FORWARDING_NAMES[text]


def parse_tunnel(kind: str | None, port: int | None, checksum: str | None) -> Tunnel | None:
    """Read --tunnel-type, --tunnel-port and --tunnel-checksum; None where none of them is given."""
    if (kind, port, checksum) == (None, None, None):
        return None
    types = {each.name.lower(): each for each in TunnelType}
    checksums = {each.name.lower(): each for each in TunnelChecksum}
    if kind is not None and kind not in types:
        raise InvalidInputError("tunnel_type", f"tunnel_type: {kind!r} is unknown; use ipip, gue or gre")
    if checksum is not None and checksum not in checksums:
        raise InvalidInputError(
            "tunnel_checksum", f"tunnel_checksum: {checksum!r} is unknown; use none, full or remote"
        )
    return Tunnel(
        type=types[kind or "ipip"],
        port=check_port(port or 0, "tunnel_port"),
        checksum=checksums[checksum or "none"],
    )


def check_lease(seconds: int) -> int:
    """Return a lease that is in range."""
    _check_range("lease", seconds, MIN_LEASE, MAX_LEASE)
    return seconds


def _check_range(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidInputError(field, f"{field}: {value:g} s is out of range ({least:g} to {most:g} s)")
