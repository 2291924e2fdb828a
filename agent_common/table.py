"""A whole IPVS table, and steps from one to another. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent_common.destination import WHOLE, Destination, DestinationKey, Standing, effective
from agent_common.health import HealthPolicy
from agent_common.virtual_server import VirtualServer, VirtualServerKey


@dataclass(slots=True, kw_only=True)
class Entry:
    """A virtual server and its destinations; None for one that must be there already.

    health is how they are checked; None: as they are.
    """

    virtual_server: VirtualServer | None = None
    destinations: dict[DestinationKey, Destination] = field(default_factory=dict)
    health: HealthPolicy | None = None


Table = Mapping[VirtualServerKey, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStep:
    """A virtual server before and after, None where there is none; both and equal: a foreign one that is taken in.

    was_managed: it was this agent's own before.
    """

    before: VirtualServer | None
    after: VirtualServer | None
    was_managed: bool = False

    @property
    def key(self) -> VirtualServerKey:
        """Which."""
        server = self.after or self.before
        assert server is not None  # noqa: S101  # a step has a side
        return server.key

    server = key
    """The virtual server that it is about, as a step of a destination has it."""

    def __str__(self) -> str:
        return f"virtual server {self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStep:
    """A destination before and after, None where there is none; both and equal: a foreign one that is taken in.

    was_managed: it was this agent's own before.
    """

    server: VirtualServerKey
    before: Destination | None
    after: Destination | None
    was_managed: bool = False

    @property
    def key(self) -> DestinationKey:
        """Which."""
        destination = self.after or self.before
        assert destination is not None  # noqa: S101  # a step has a side
        return destination.key

    def __str__(self) -> str:
        return f"{self.key} in {self.server}"


TableStep = ServerStep | DestinationStep


def verb_of(step: TableStep) -> str:
    """Return what a step does: add, edit, remove or adopt."""
    if step.before is None:
        return "add"
    if step.after is None:
        return "remove"
    return "adopt" if step.before == step.after else "edit"


def opposite(step: TableStep) -> TableStep:
    """Return the step that takes this one back."""
    if isinstance(step, ServerStep):
        return replace(step, before=step.after, after=step.before)
    return replace(step, before=step.after, after=step.before)


def in_kernel(step: TableStep, standing: Standing = WHOLE) -> TableStep | None:
    """Return what a step is to the kernel, which knows of no drain; None: nothing, since its checks have it out.

    standing: how the destination stands, before and after.
    """
    if isinstance(step, ServerStep):
        return step
    if standing.removed:
        return None
    if standing == WHOLE and not any(side and side.draining for side in (step.before, step.after)):
        return step
    before, after = (side and effective(side, standing) for side in (step.before, step.after))
    return replace(step, before=before, after=after)


def find(table: Table, step: TableStep) -> VirtualServer | Destination | None:
    """Return what a table has of the thing that a step is about."""
    entry = table.get(step.server)
    if entry is None:
        return None
    return entry.virtual_server if isinstance(step, ServerStep) else entry.destinations.get(step.key)


def take(table: dict[VirtualServerKey, Entry], step: TableStep) -> None:
    """Make a step in a table, whatever was there."""
    if isinstance(step, ServerStep):
        if step.after is None:
            table.pop(step.key, None)
        else:
            table.setdefault(step.key, Entry()).virtual_server = step.after
        return
    destinations = table.setdefault(step.server, Entry()).destinations
    if step.after is None:
        destinations.pop(step.key, None)
    else:
        destinations[step.key] = step.after
