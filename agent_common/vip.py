"""VIPs on a host and who holds them. No I/O."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from agent_common.errors import InvalidInputError
from agent_common.tunnel import TunnelEnd
from agent_common.virtual_server import IpAddress, VirtualServerKey, parse_key


class VipMode(enum.StrEnum):
    """Who puts a VIP on the directors: their agent, or something else (VRRP, BGP)."""

    AGENT = "agent"
    EXTERNAL = "external"


def parse_vip_mode(text: str | None) -> VipMode | None:
    """Read agent or external; None stays None."""
    if text is None:
        return None
    if text not in set(VipMode):
        raise InvalidInputError("vip_mode", f"vip_mode: {text!r} is unknown; use agent or external")
    return VipMode(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServerHolder:
    """A virtual server that needs the VIP, as decided by the director with this agent id."""

    key: VirtualServerKey
    authority: str

    def __str__(self) -> str:
        return f"{self.key}@{self.authority}"

    @property
    def label(self) -> str:
        """What people are shown: the authority's identity is for machines."""
        return str(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorHolder:
    """An operator who asked for the VIP, under a name of their choice."""

    name: str

    def __post_init__(self) -> None:
        check_name("operator", self.name)

    def __str__(self) -> str:
        return f"operator/{self.name}"

    @property
    def label(self) -> str:
        """What people are shown."""
        return f"operator {self.name}"


Holder = VirtualServerHolder | OperatorHolder


def check_name(field: str, name: str) -> str:
    """Return a name of 1 to 64 letters, digits, '.', '_' or '-', or raise InvalidInputError."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise InvalidInputError(field, f"{field}: {name!r} is not a name (1 to 64 letters, digits, '.', '_' or '-')")
    return name


def parse_holder(text: str) -> Holder:
    """Read the text form of a holder, as the state directory keeps it."""
    if text.startswith("operator/"):
        return OperatorHolder(name=text.removeprefix("operator/"))
    key, _, authority = text.rpartition("@")
    return VirtualServerHolder(key=parse_key(key), authority=check_name("authority", authority))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vip:
    """A VIP on a host: what holds it by the agent's record, and what the kernel has of it."""

    address: IpAddress
    device: str = ""
    mode: VipMode = VipMode.AGENT
    holders: tuple[Holder, ...] = ()
    made_address: bool = False
    made_route: bool = False
    present_device: str = ""
    route_present: bool = False
    tunnels: tuple[TunnelEnd, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the address is on an interface of the host now."""
        return bool(self.present_device)

    @property
    def prefix_length(self) -> int:
        """Prefix length of the address that an agent adds."""
        return self.address.max_prefixlen


def held_for(key: VirtualServerKey, vips: Iterable[Vip]) -> tuple[IpAddress, ...]:
    """Return the addresses of the VIPs that are held for a virtual server, whichever director decided that."""
    return tuple(vip.address for vip in vips if is_held_for(key, vip.holders))


def is_held_for(key: VirtualServerKey, holders: Iterable[Holder]) -> bool:
    """Whether one of the holders is this virtual server, whichever director decided that."""
    return any(isinstance(each, VirtualServerHolder) and each.key == key for each in holders)
