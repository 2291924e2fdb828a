"""The other hosts on the wire, as whoever adds an address to this one sees them."""

from __future__ import annotations

from typing import Protocol

from agent_common.operation import Change


class Neighbours(Protocol):
    """The other hosts on the wire, who are asked before an address is added and told afterwards."""

    async def ask(self, change: Change) -> None:
        """Raise RefusedError if another host has an address that the change would add."""

    async def confirm(self, change: Change) -> None:
        """Raise RefusedError if an address that the change added turns out to be a duplicate."""

    async def announce(self, change: Change) -> None:
        """Tell them of an address that the change added, in the background, and from then on."""


class NoNeighbours:
    """For changes that no other host can notice, such as a silenced VIP on lo."""

    async def ask(self, change: Change) -> None:
        """Nobody to ask."""

    async def confirm(self, change: Change) -> None:
        """Nobody has it, too."""

    async def announce(self, change: Change) -> None:
        """Nobody to tell."""
