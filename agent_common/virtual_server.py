"""Virtual servers (the kernel's "services"): keys, configuration and their rules. No I/O."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import re
import socket
from dataclasses import dataclass, replace

from agent_common.errors import InvalidInputError
from agent_common.scheduler import DEFAULT_SCHEDULER, NO_FLAGS, SchedulerFlags, check_scheduler

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_PERSISTENCE_SECONDS = 31 * 86400
"""ipvsadm(8) refuses longer timeouts, and so do we."""


class Protocol(enum.IntEnum):
    """Transport protocols that IPVS serves, by their IP protocol numbers."""

    TCP = socket.IPPROTO_TCP
    UDP = socket.IPPROTO_UDP
    SCTP = socket.IPPROTO_SCTP


class Family(enum.IntEnum):
    """Address families, by their Linux numbers."""

    IPV4 = socket.AF_INET
    IPV6 = socket.AF_INET6


def family_of(address: IpAddress) -> Family:
    """Return the family of an address."""
    return Family.IPV4 if address.version == 4 else Family.IPV6


def parse_address(text: str, field: str) -> IpAddress:
    """Read an IPv4 or IPv6 address; a scope id or a prefix length is an error, as is anything else."""
    with contextlib.suppress(OSError, ValueError):
        return ipaddress.IPv4Address(socket.inet_pton(socket.AF_INET, text))  # ipaddress takes eight times as long
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidInputError(field, f"{field}: {text!r} is not an IPv4 or IPv6 address") from error
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise InvalidInputError(field, f"{field}: {text!r} has a scope id; LVS needs a global address")
    return address


def parse_network(text: str, field: str) -> IpNetwork:
    """Read a prefix, or one address as the prefix that only it has; bits behind the prefix are an error."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidInputError(field, f"{field}: {text!r} is not a prefix like 10.0.0.0/8, nor an address") from error


def parse_unicast(text: str, field: str) -> IpAddress:
    """Read an address that a host can have beside loopback ones: a VIP or a real server's own address."""
    return check_unicast(parse_address(text, field), field)


def check_unicast(address: IpAddress, field: str) -> IpAddress:
    """Return an address that can be a VIP or a real server's own; the kernel takes others, made by other programs."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        mapped = address.ipv4_mapped
        raise InvalidInputError(field, f"{field}: ::ffff:{mapped} is an IPv4-mapped address; write {mapped}")
    kinds = {
        "the unspecified address": address.is_unspecified,
        "a loopback address": address.is_loopback,
        "a multicast address": address.is_multicast,
        "a link-local address": address.is_link_local,
        "the broadcast address": address == ipaddress.IPv4Address("255.255.255.255"),
    }
    for kind, applies in kinds.items():
        if applies:
            raise InvalidInputError(field, f"{field}: {address} is {kind}, which cannot be served")
    return address


def check_port(port: int, field: str, *, zero: bool = True) -> int:
    """Return the port if it is 0 (where allowed) or 1 to 65535."""
    if not (0 if zero else 1) <= port <= 65535:
        raise InvalidInputError(field, f"{field}: {port} is not a port ({0 if zero else 1} to 65535)")
    return port


def parse_port(text: str, field: str) -> int:
    """Read a decimal port, 0 to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise InvalidInputError(field, f"{field}: {text!r} is not a port (0 to 65535)")
    return check_port(int(text), field)


def split_endpoint(text: str) -> tuple[str, str | None]:
    """Return address and port of ADDRESS[:PORT] or [IPV6][:PORT]; without brackets an IPv6 address has no port."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed:
        return bracketed[1], bracketed[2]
    if text.count(":") > 1:
        return text, None
    host, colon, rest = text.partition(":")
    return host, rest if colon else None


def parse_endpoint(
    text: str, field: str, *, default_port: int | None = None, unicast: bool = True
) -> tuple[IpAddress, int]:
    """Read ADDRESS:PORT, [IPV6]:PORT, or with a default port ADDRESS alone; unicast: as parse_unicast does."""
    host, port = split_endpoint(text)
    if host == text and text.count(":") > 1 and default_port is None:
        raise InvalidInputError(field, f"{field}: cannot read {text!r}; write an IPv6 address as [ADDRESS]:PORT")
    address = parse_unicast(host, field) if unicast else parse_address(host, field)
    if port is None:
        if default_port is None:
            raise InvalidInputError(field, f"{field}: {text!r} has no port; write {format_endpoint(address, 80)}")
        return address, default_port
    return address, parse_port(port, field)


def format_endpoint(address: IpAddress, port: int) -> str:
    """Write ADDRESS:PORT, IPv6 in brackets; as ipvsadm does, IPv4-mapped addresses with dots (inet_ntop)."""
    if address.version == 4:
        return f"{socket.inet_ntop(socket.AF_INET, address.packed)}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, address.packed)}]:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAddress:
    """A virtual server found by protocol, address and port (0: every port)."""

    protocol: Protocol
    address: IpAddress
    port: int

    def __post_init__(self) -> None:
        check_port(self.port, "port")

    def __hash__(self) -> int:
        return hash((self.protocol, int(self.address), self.port))  # ipaddress's own is slow: see DestinationKey

    @property
    def family(self) -> Family:
        """Family of the VIP."""
        return family_of(self.address)

    def __str__(self) -> str:
        return f"{self.protocol.name.lower()}/{format_endpoint(self.address, self.port)}"


MAX_MARK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallMark:
    """A virtual server found by a firewall's mark, 1 to 4294967295."""

    mark: int
    family: Family

    def __post_init__(self) -> None:
        if not 1 <= self.mark <= MAX_MARK:
            raise InvalidInputError("mark", f"mark: {self.mark} is not a firewall mark (1 to {MAX_MARK})")

    def __str__(self) -> str:
        return f"{'fwmark' if self.family is Family.IPV4 else 'fwmark6'}/{self.mark}"


VirtualServerKey = ServiceAddress | FirewallMark


def parse_key(text: str, field: str = "key") -> VirtualServerKey:
    """Read the text form of a key: tcp/192.168.0.200:80, udp/[2001:db8::1]:53, fwmark/7, fwmark6/7.

    Any address: a virtual server that is there has the one that somebody gave it.
    """
    kind, slash, rest = text.partition("/")
    if slash and kind in ("fwmark", "fwmark6"):
        if not re.fullmatch(r"[0-9]{1,10}", rest):
            raise InvalidInputError(field, f"{field}: {rest!r} is not a firewall mark (1 to 4294967295)")
        return FirewallMark(mark=int(rest), family=Family.IPV4 if kind == "fwmark" else Family.IPV6)
    if slash and kind.upper() in Protocol.__members__:
        address, port = parse_endpoint(rest, field, unicast=False)
        return ServiceAddress(protocol=Protocol[kind.upper()], address=address, port=port)
    raise InvalidInputError(
        field, f"{field}: cannot read {text!r}; write tcp/192.168.0.200:80, udp/[2001:db8::1]:53, fwmark/7 or fwmark6/7"
    )


def key_order(key: VirtualServerKey) -> tuple[int, int, int, bytes, int]:
    """Sort key for lists: service addresses first, IPv4 before IPv6, then by protocol, address and port."""
    if isinstance(key, FirewallMark):
        return (1, int(key.family), 0, b"", key.mark)
    return (0, int(key.family), int(key.protocol), key.address.packed, key.port)


def check_engine(name: str) -> str:
    """Return the name of a persistence engine that the kernel may have, or "" for none."""
    if name not in ("", "sip"):
        raise InvalidInputError("persistence_engine", f"persistence_engine: {name!r} is unknown; the kernel has sip")
    return name


def longest_prefix(family: Family) -> int:
    """Return the bits of an address."""
    return 32 if family is Family.IPV4 else 128


def check_prefix_length(bits: int, family: Family) -> int:
    """Return a prefix length of persistence that is in range for the family; the kernel takes 0 with IPv4 only."""
    smallest, longest = 0 if family is Family.IPV4 else 1, longest_prefix(family)
    if not smallest <= bits <= longest:
        raise InvalidInputError(
            "persistence.prefix_length",
            f"persistence prefix length: {bits} is out of range ({smallest} to {longest})",
        )
    return bits


def netmask_of(prefix_length: int) -> ipaddress.IPv4Address:
    """Return the mask of IPv4 with so many leading ones."""
    return ipaddress.IPv4Address(0xFFFFFFFF << (32 - prefix_length) & 0xFFFFFFFF)


def prefix_length_of(netmask: ipaddress.IPv4Address) -> int | None:
    """Return how many leading ones a mask has, or None if it has others, too."""
    length = int(netmask).bit_count()
    return length if netmask_of(length) == netmask else None


def parse_clients(text: str, field: str) -> tuple[int | None, ipaddress.IPv4Address | None]:
    """Read which clients of persistence are one: a prefix length, or an IPv4 mask; the other one is None."""
    if re.fullmatch(r"[0-9]{1,3}", text):
        return int(text), None
    try:
        return None, ipaddress.IPv4Address(text)
    except ValueError as error:
        raise InvalidInputError(
            field, f"{field}: {text!r} is not a prefix length, nor an IPv4 mask such as 255.255.255.0"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """Keeps a client on one real server.

    timeout is in seconds (1 to 2678400). Clients that share prefix_length leading bits count as one, or with a netmask
    those that are equal under it; it is for masks that no prefix length can say (IPv4), as 255.0.255.0.
    """

    timeout: int
    prefix_length: int | None = None
    netmask: ipaddress.IPv4Address | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.timeout <= MAX_PERSISTENCE_SECONDS:
            raise InvalidInputError(
                "persistence.timeout",
                f"persistence timeout: {self.timeout} s is out of range (1 to {MAX_PERSISTENCE_SECONDS} s)",
            )
        if self.prefix_length is not None and self.netmask is not None:
            raise InvalidInputError("persistence.netmask", "persistence netmask: not with a prefix length")

    def of(self, family: Family) -> Persistence:
        """Return it as the kernel shows it: a mask that is a prefix as its length, and the longest as none.

        Raises InvalidInputError for what an address of the family cannot have.
        """
        length = self.prefix_length
        if self.netmask is not None:
            if family is Family.IPV6:
                raise InvalidInputError("persistence.netmask", "persistence netmask: IPv6 takes a prefix length")
            length = prefix_length_of(self.netmask)
            if length is None:
                return self
        if length is not None:
            check_prefix_length(length, family)
        return replace(self, prefix_length=None if length == longest_prefix(family) else length, netmask=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServer:
    """A virtual server's whole configuration, checked by ipvsadm's rules for combinations."""

    key: VirtualServerKey
    scheduler: str = DEFAULT_SCHEDULER
    scheduler_flags: SchedulerFlags = NO_FLAGS
    persistence: Persistence | None = None
    persistence_engine: str = ""
    one_packet: bool = False

    def check(self) -> VirtualServer:
        """Raise InvalidInputError unless ipvsadm, too, would take this combination.

        Returns the virtual server as the kernel will show it (Persistence.of).
        """
        check_scheduler(self.scheduler)
        if isinstance(self.key, ServiceAddress) and self.key.port == 0 and self.persistence is None:
            raise InvalidInputError("port", "port: 0 (every port) needs persistence")
        if self.one_packet and isinstance(self.key, ServiceAddress) and self.key.protocol is not Protocol.UDP:
            raise InvalidInputError("one_packet", "one_packet: needs UDP or a firewall mark")
        check_engine(self.persistence_engine)
        return replace(self, persistence=self.persistence.of(self.key.family)) if self.persistence else self

    @property
    def refuses_at_weight_zero(self) -> bool:
        """Whether clients of a destination at weight 0 are refused instead of sent elsewhere (measured, KERNEL.md)."""
        if self.scheduler == "dh":
            return True
        return self.scheduler in ("sh", "mh") and not self.scheduler_flags.flag_1
