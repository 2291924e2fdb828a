"""A whole IPVS table, and steps from one to another. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent_common.destination import Destination, DestinationKey
from agent_common.virtual_server import VirtualServer, VirtualServerKey


@dataclass(slots=True, kw_only=True)
class Entry:
    """A virtual server and its destinations; None for one that must be there already."""

    virtual_server: VirtualServer | None = None
    destinations: dict[DestinationKey, Destination] = field(default_factory=dict)


Table = Mapping[VirtualServerKey, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStep:
    """A virtual server before and after; None where there is none."""

    before: VirtualServer | None
    after: VirtualServer | None

    @property
    def key(self) -> VirtualServerKey:
        """Which."""
        server = self.after or self.before
        assert server is not None  # noqa: S101  # a step has a side
        return server.key


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStep:
    """A destination before and after; None where there is none."""

    server: VirtualServerKey
    before: Destination | None
    after: Destination | None

    @property
    def key(self) -> DestinationKey:
        """Which."""
        destination = self.after or self.before
        assert destination is not None  # noqa: S101  # a step has a side
        return destination.key


TableStep = ServerStep | DestinationStep
