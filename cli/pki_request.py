"""What `lvs pki` is asked for, checked as far as the command line alone can tell. No I/O."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

from agent_common.errors import InvalidInputError, Reason, RefusedError
from agent_common.identity import Identity, Kind, check_name
from agent_common.virtual_server import IpAddress, parse_address

DEFAULT_DOMAIN = "lvs.internal"
"""internal is the top level domain that will never be delegated (ICANN, 2024): a site that names none meets nobody."""

MAX_DAYS = 36500
DEFAULT_WITHIN = datetime.timedelta(days=30)

HostName = NewType("HostName", str)
Address = IpAddress | HostName

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
"""Of a host's name (RFC 1123, 2.1), and the underscore that names in containers have."""

_AGENTS = (Kind.DIRECTOR, Kind.REALSERVER)
_USERS = (Kind.VIEWER, Kind.OPERATOR, Kind.ADMIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose a certificate is: an agent with the addresses at which it is dialled, or a user, who has none."""

    kind: Kind
    name: str
    addresses: tuple[Address, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def directory(self) -> str:
        """The name of its directory: one for each identity, and no identity has a hyphen in its kind."""
        return f"{self.kind}-{self.name}"

    def identity(self, domain: str) -> Identity:
        """Return who that is in a trust domain."""
        return Identity(domain=domain, kind=self.kind, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which certificates to renew: those that are named, or all, or those that end before a time from now."""

    names: tuple[str, ...] = ()
    everything: bool = False
    within: datetime.timedelta = DEFAULT_WITHIN


def refused(message: str) -> RefusedError:
    """Return what the state of a PKI forbids. Reasons are for who calls an agent: nobody sees this one."""
    return RefusedError(message, Reason.NOT_SUPPORTED)


def parse_agent(name: str, addresses: Sequence[str], role: str) -> Holder:
    """Read what an agent's certificate is to say; raises InvalidInputError.

    Nothing is added to the addresses. 127.0.0.1 and localhost prove nothing: every host has them, so a certificate that
    says them speaks for the agent of any host on which its key is. On the host itself there is the unix socket; who
    wants TLS over loopback all the same names the address.
    """
    if not addresses:
        raise InvalidInputError("address", "address: an agent needs at least one, that at which lvs dials it")
    parsed = tuple(parse_host(text, "address") for text in addresses)
    for number, each in enumerate(parsed):
        if each in parsed[:number]:
            raise InvalidInputError("address", f"address: {each} is given twice")
    return Holder(kind=_role(role, _AGENTS), name=check_name(name, "name"), addresses=parsed)


def parse_user(name: str, role: str) -> Holder:
    """Read what a user's certificate is to say; raises InvalidInputError."""
    return Holder(kind=_role(role, _USERS), name=check_name(name, "name"))


def parse_host(text: str, field: str) -> Address:
    """Read an address or a host's name as it can stand in a certificate: a name in lower case, without wildcards."""
    if ":" in text or re.fullmatch(r"[0-9.]+", text):
        return _check_address(text, field)
    name = text.lower()
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise InvalidInputError(field, f"{field}: {text!r} is neither an address nor a host's name")
    return HostName(name)


def parse_days(days: int, field: str = "days") -> datetime.timedelta:
    """Read how long something is valid, or ahead."""
    if not 1 <= days <= MAX_DAYS:
        raise InvalidInputError(field, f"{field}: {days} is out of range (1 to {MAX_DAYS})")
    return datetime.timedelta(days=days)


def parse_chosen(names: Sequence[str], within: int | None, *, everything: bool) -> Chosen:
    """Read which certificates to renew; raises InvalidInputError."""
    if everything and names:
        raise InvalidInputError("all", "all: name certificates, or give --all; not both")
    if within is not None and (everything or names):
        raise InvalidInputError("within", "within: it chooses by date; names and --all choose without")
    for number, name in enumerate(names):
        kind, slash, rest = name.rpartition("/")
        check_name(rest, "name")
        if slash:
            _role(kind, tuple(Kind))
        if name in names[:number]:
            raise InvalidInputError("name", f"name: {name} is given twice")
    ahead = DEFAULT_WITHIN if within is None else parse_days(within, "within")
    return Chosen(names=tuple(names), everything=everything, within=ahead)


def _check_address(text: str, field: str) -> IpAddress:
    if text.startswith("[") or re.fullmatch(r"[^:]+:\d*", text):
        raise InvalidInputError(field, f"{field}: {text!r}: write the address alone, without brackets and port")
    address = parse_address(text, field)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    is_link_local = address.version == 6 and address.is_link_local
    if mapped is not None or address.is_unspecified or address.is_multicast or is_link_local or address == _BROADCAST:
        raise InvalidInputError(field, f"{field}: {address} is no address that a host could be dialled by")
    return address


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def _role(text: str, known: tuple[Kind, ...]) -> Kind:
    """Read a role out of those that this kind of holder can have; agents and users are never taken for one another."""
    if text not in known:
        raise InvalidInputError("role", f"role: {text!r} is unknown here; known are {', '.join(known)}")
    return Kind(text)
