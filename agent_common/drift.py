"""What differs between what was committed and what the kernel has. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent_common.destination import DestinationKey
from agent_common.virtual_server import IpAddress, VirtualServerKey


class DriftKind(enum.StrEnum):
    """How something differs."""

    MISSING = "missing"
    MODIFIED = "modified"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationName:
    """A destination by its whole name."""

    server: VirtualServerKey
    key: DestinationKey

    def __str__(self) -> str:
        return f"{self.key} in {self.server}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArpInterface:
    """An interface of a real server that would answer ARP for a VIP."""

    name: str

    def __str__(self) -> str:
        return f"ARP on {self.name}"


class IpvsSetting(enum.StrEnum):
    """What is set of IPVS on a director as a whole."""

    TIMEOUTS = "timeouts"
    SYNC_MASTER = "sync daemon master"
    SYNC_BACKUP = "sync daemon backup"


Resource = VirtualServerKey | DestinationName | IpAddress | ArpInterface | IpvsSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One thing that differs; fields are those of a modified one, detail is for people."""

    kind: DriftKind
    resource: Resource
    fields: tuple[str, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.resource} is {self.kind}" + (f": {self.detail}" if self.detail else "")
