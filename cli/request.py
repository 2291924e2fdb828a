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
    Family,
    FirewallMark,
    IpAddress,
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    VirtualServerKey,
    check_port,
    family_of,
    parse_endpoint,
    parse_unicast,
)

MIN_LEASE, MAX_LEASE = 5, 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Which real servers behind which virtual server; vips are those that the command line names.

    A firewall mark may have more of them: those that a director holds for it.
    """

    key: VirtualServerKey
    real_servers: tuple[DestinationKey, ...]
    vips: tuple[IpAddress, ...] = ()

    @property
    def takes_every_port(self) -> bool:
        """Whether no single port says where the application listens."""
        return not isinstance(self.key, ServiceAddress) or self.key.port == 0


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
            persistence=self.persistence or (Persistence(timeout=300) if self.backend.takes_every_port else None),
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


def choose_backend(
    real_servers: Sequence[str],
    vip: str | None,
    protocol: str | None,
    fwmark: int | None,
    fwmark6: int | None,
    vip_addresses: Sequence[str] | None = None,
) -> Backend:
    """Read what names a virtual server, by --vip or by a firewall mark, and the real servers behind it."""
    given = [name for name, value in (("vip", vip), ("fwmark", fwmark), ("fwmark6", fwmark6)) if value is not None]
    if len(given) != 1:
        rule = f"{' and '.join(given)} exclude each other" if given else "must be given, or fwmark or fwmark6"
        raise InvalidInputError("vip", f"vip: {rule}")
    if vip is not None:
        if vip_addresses:
            raise InvalidInputError("vip_address", "vip_address: goes with a mark; --vip names its own address")
        return parse_backend(vip, real_servers, protocol or "tcp")
    if protocol is not None:
        raise InvalidInputError("protocol", "protocol: goes with --vip; a mark takes every protocol")
    number, family = (fwmark, Family.IPV4) if fwmark is not None else (fwmark6, Family.IPV6)
    return parse_marked_backend(FirewallMark(mark=number or 0, family=family), real_servers, vip_addresses or ())


def parse_backend(vip: str, real_servers: Sequence[str], protocol: str) -> Backend:
    """Read --vip, --rs and --protocol; a real server without a port gets the VIP's, and none may come twice."""
    number = parse_protocol(protocol)
    address, port = parse_endpoint(vip, "vip")
    key = ServiceAddress(protocol=number, address=address, port=port)
    return Backend(key=key, real_servers=_parse_real_servers(real_servers, port, (address,)), vips=(address,))


def parse_marked_backend(mark: FirewallMark, real_servers: Sequence[str], vips: Sequence[str] = ()) -> Backend:
    """Read --rs and --vip-address for a firewall mark; a real server without a port gets 0: the client's is kept."""
    addresses = parse_vip_addresses(vips, mark.family)
    return Backend(key=mark, real_servers=_parse_real_servers(real_servers, 0, addresses), vips=addresses)


def parse_vip_addresses(texts: Sequence[str], family: Family) -> tuple[IpAddress, ...]:
    """Read --vip-address for a mark of one family; none may come twice."""
    found: list[IpAddress] = []
    for text in texts:
        vip = parse_unicast(text, "vip_address")
        if vip in found:
            raise InvalidInputError("vip_address", f"vip_address: {vip} is given twice")
        if family_of(vip) is not family:
            raise InvalidInputError(
                "vip_address", f"vip_address: {vip} is not of the mark's family (fwmark: IPv4, fwmark6: IPv6)"
            )
        found.append(vip)
    return tuple(found)


def _parse_real_servers(
    real_servers: Sequence[str], port: int, vips: Sequence[IpAddress]
) -> tuple[DestinationKey, ...]:
    if not real_servers:
        raise InvalidInputError("rs", "rs: must be given")
    found: list[DestinationKey] = []
    for text in real_servers:
        rs_address, rs_port = parse_endpoint(text, "rs", default_port=port)
        destination = DestinationKey(address=rs_address, port=rs_port)
        if destination in found:
            raise InvalidInputError("rs", f"rs: {destination} is given twice")
        if rs_address in vips:
            raise InvalidInputError("rs", f"rs: {rs_address} is the VIP itself")
        found.append(destination)
    return tuple(found)


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
