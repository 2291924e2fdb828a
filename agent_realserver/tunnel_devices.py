"""Devices and ports that unwrap tunnelled packets: which a tunnel needs, and what an adapter does. No I/O."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Protocol

from agent_common.destination import TunnelType
from agent_common.tunnel import TunnelEnd
from agent_common.virtual_server import Family

LOOSE: Final = 2
"""Of rp_filter: a packet is taken if its source can be reached by any interface (ip-sysctl.rst)."""

OWN_ADDRESS: Final = ipaddress.IPv4Address("127.254.0.1")
"""On a tunnel device, scope host: nobody can reach it and nothing is sent from it, but a device without any address
fails the loose source check, too (__fib_validate_source: no_addr)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceName:
    """A device by the name and kind that the kernel's own has, which takes whatever no other device is for."""

    name: str
    kind: str


_DEVICES: Final = {
    (False, Family.IPV4, Family.IPV4): DeviceName(name="tunl0", kind="ipip"),
    (False, Family.IPV4, Family.IPV6): DeviceName(name="sit0", kind="sit"),
    (False, Family.IPV6, Family.IPV4): DeviceName(name="ip6tnl0", kind="ip6tnl"),
    (False, Family.IPV6, Family.IPV6): DeviceName(name="ip6tnl0", kind="ip6tnl"),
    (True, Family.IPV4, Family.IPV4): DeviceName(name="gre0", kind="gre"),
    (True, Family.IPV4, Family.IPV6): DeviceName(name="gre0", kind="gre"),
    (True, Family.IPV6, Family.IPV4): DeviceName(name="ip6gre0", kind="ip6gre"),
    (True, Family.IPV6, Family.IPV6): DeviceName(name="ip6gre0", kind="ip6gre"),
}
"""By whether it is GRE, the outer family and the VIP's. What comes out of GUE is as out of the UDP packet's IPIP."""


def device_for(end: TunnelEnd, inner: Family) -> DeviceName:
    """Return the device in which packets for a VIP of this family come out of a tunnel."""
    return _DEVICES[end.type is TunnelType.GRE, end.outer, inner]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelDevice:
    """A device as the kernel has it; kind is IFLA_INFO_KIND, the addresses are IPv4, rp_filter is its own."""

    kind: str
    up: bool
    addresses: frozenset[ipaddress.IPv4Address]
    rp_filter: int
    takes_any: bool = True
    """An ip6tnl that takes IPv4 as well as IPv6; the kernel's own ip6tnl0 takes IPv6 alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuePort:
    """A UDP port at which GUE is unwrapped."""

    port: int
    family: Family


class TunnelDevices(Protocol):
    """Tunnel devices of the host. Synchronous; every method belongs to one worker thread.

    Errors of all methods: RefusedError with NO_CAPABILITY, NO_DEVICE, MODULE_MISSING or KERNEL_REFUSED.
    """

    def find(self, name: str) -> TunnelDevice | None:
        """Return a device, or None where there is none."""

    def create(self, device: DeviceName) -> bool:
        """Add a device that takes packets of any address; return False where loading its module has added it."""

    def delete(self, name: str) -> None:
        """Remove a device."""

    def set_up(self, name: str, *, up: bool) -> None:
        """Set a device up or down."""

    def add_own_address(self, name: str) -> None:
        """Add OWN_ADDRESS to a device."""

    def remove_own_address(self, name: str) -> None:
        """Remove OWN_ADDRESS from a device."""

    def rp_filter_of_all(self) -> int:
        """Return rp_filter of "all"; on a device the larger one counts."""

    def set_rp_filter(self, name: str, value: int) -> None:
        """Set a device's own rp_filter, and read it back."""

    def gue_ports(self) -> set[GuePort]:
        """Return the ports at which GUE is unwrapped; none where the kernel has no fou."""

    def open_gue_port(self, port: GuePort) -> None:
        """Open a port."""

    def close_gue_port(self, port: GuePort) -> None:
        """Close a port."""
