"""The ARP sysctls that keep a real server silent about its VIPs: the table, and what follows from values. No I/O.

Only IPv4 needs them. Facts: net/ipv4/arp.c (arp_ignore, arp_solicit), include/linux/inetdevice.h, and KERNEL.md.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

ALL = "all"

SILENT_IGNORE = frozenset({1, 2, 8})
"""Values of arp_ignore that keep an address on lo silent. It is not a scale: 0, 3, 4 to 7 and above 8 do not."""

SILENT_ANNOUNCE = 2
"""The one value of arp_announce that never uses a VIP as the sender's address; larger ones count as 0."""


class ArpName(enum.StrEnum):
    """A sysctl below /proc/sys/net/ipv4/conf/INTERFACE."""

    IGNORE = "arp_ignore"
    ANNOUNCE = "arp_announce"


SysctlKey = tuple[str, ArpName]
"""Interface (or "all") and name."""

ArpValues = Mapping[SysctlKey, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArpSetting:
    """A line of the table: what is set, and why."""

    interface: str
    name: ArpName
    value: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArpChange:
    """A sysctl that must change."""

    interface: str
    name: ArpName
    old: int
    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSilence:
    """The effective values of an interface, and whether they silence; problem: for people, empty if silent."""

    interface: str
    arp_ignore: int
    arp_announce: int
    silent: bool
    problem: str


ARP_SETTINGS = (
    ArpSetting(
        interface=ALL,
        name=ArpName.IGNORE,
        value=1,
        why="answer ARP only for addresses of the interface where the question came in: never for a VIP on lo",
    ),
    ArpSetting(
        interface=ALL,
        name=ArpName.ANNOUNCE,
        value=2,
        why="ask with an address of the outgoing interface: never with a VIP, which would teach others the wrong MAC",
    ),
    ArpSetting(
        interface="lo",
        name=ArpName.IGNORE,
        value=1,
        why="customary; counts only where ARP comes in, which lo never does",
    ),
    ArpSetting(
        interface="lo",
        name=ArpName.ANNOUNCE,
        value=2,
        why="customary; counts only where ARP goes out, which lo never does",
    ),
)
"""What makes a real server silent, in the order in which it is written."""


def value_silences(name: ArpName, value: int) -> bool:
    """Whether a value of one sysctl silences, if it is the effective one."""
    return value in SILENT_IGNORE if name is ArpName.IGNORE else value == SILENT_ANNOUNCE


def silences(arp_ignore: int, arp_announce: int) -> bool:
    """Whether effective values keep an interface silent about VIPs on lo."""
    return value_silences(ArpName.IGNORE, arp_ignore) and value_silences(ArpName.ANNOUNCE, arp_announce)


def effective(values: ArpValues, interface: str, name: ArpName) -> int:
    """Return what counts on an interface: the larger of its own value and that of "all"."""
    return max(values[ALL, name], values[interface, name])


def needed_changes(values: ArpValues) -> list[ArpChange]:
    """Return what must be written, in order; a value that silences already is kept as it is."""
    return [
        ArpChange(interface=setting.interface, name=setting.name, old=old, new=setting.value)
        for setting in ARP_SETTINGS
        if not value_silences(setting.name, old := values[setting.interface, setting.name])
    ]


def with_changes(values: ArpValues, changes: Iterable[ArpChange]) -> ArpValues:
    """Return the values as they will be."""
    return {**values, **{(change.interface, change.name): change.new for change in changes}}


def silence_of(values: ArpValues, interface: str) -> InterfaceSilence:
    """Judge one interface that does ARP."""
    problems = [
        _problem(values, interface, name)
        for name in ArpName
        if not value_silences(name, effective(values, interface, name))
    ]
    arp_ignore, arp_announce = (effective(values, interface, name) for name in ArpName)
    return InterfaceSilence(
        interface=interface,
        arp_ignore=arp_ignore,
        arp_announce=arp_announce,
        silent=not problems,
        problem="; ".join(problems),
    )


def answering(values: ArpValues, arp_interfaces: Iterable[str]) -> list[InterfaceSilence]:
    """Return the interfaces, of those that do ARP, that are not silent with these values."""
    return [judged for interface in arp_interfaces if not (judged := silence_of(values, interface)).silent]


def _problem(values: ArpValues, interface: str, name: ArpName) -> str:
    own, wanted = values[interface, name], _wanted(name)
    # The larger value counts; of two equal ones "all" is the one that mends every interface.
    guilty = interface if own > values[ALL, name] else ALL
    value = values[guilty, name]
    does = "would answer ARP for the VIP" if name is ArpName.IGNORE else "would ask by ARP in the VIP's name"
    return (
        f"{interface} {does}: {guilty}/{name} is {value}, which does not silence; "
        f"type: sysctl -w net/ipv4/conf/{guilty}/{name}={wanted}"
    )


def _wanted(name: ArpName) -> int:
    return next(setting.value for setting in ARP_SETTINGS if setting.interface == ALL and setting.name is name)


class ArpSysctls(Protocol):
    """The ARP sysctls of the host. Synchronous.

    Errors: RefusedError with NO_CAPABILITY, NO_DEVICE or KERNEL_REFUSED.
    """

    def interfaces(self) -> list[str]:
        """Return the interfaces that have sysctls, without "all" and "default"."""
        ...

    def read(self, interface: str, name: ArpName) -> int:
        """Return the interface's own value ("all" is an interface here)."""
        ...

    def write(self, interface: str, name: ArpName, value: int) -> None:
        """Set a value and read it back."""
        ...


def read_values(sysctls: ArpSysctls, interfaces: Iterable[str]) -> ArpValues:
    """Read both sysctls of "all", lo and the given interfaces."""
    wanted = dict.fromkeys((ALL, "lo", *interfaces))
    return {(interface, name): sysctls.read(interface, name) for interface in wanted for name in ArpName}
