"""A whole IPVS table: virtual servers with their destinations. No I/O."""

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
