"""Plans: what a command will do, step by step, as data."""

from __future__ import annotations

from dataclasses import dataclass

from lvsagent.v1 import host_service_pb2

from agent_common.destination import DestinationKey
from agent_common.operation import Operation
from agent_common.virtual_server import VirtualServerKey
from cli.outcome import StepReport
from cli.site import AgentName
from cli.typed import NextCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that one agent is asked to do.

    Operations (all or none of them), or to wait until something listens or a destination has no connections left.

    title says what it does, undo what takes it back; a step with operations can be reverted by name.
    details are what it does, a line each; wildcard_warning is said if what listens is bound to the wildcard address.
    """

    agent: AgentName
    title: str
    undo: str = ""
    operations: tuple[Operation, ...] = ()
    listener: host_service_pb2.CheckListenerRequest | None = None
    seconds: float = 0.0
    wildcard_warning: str = ""
    details: tuple[str, ...] = ()
    drained: tuple[VirtualServerKey, DestinationKey] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in their order, what was found as it is, what the operator should know, and what to type some day.

    The last of steps is the decision: until then a failure takes everything back. What follows goes only forward.
    """

    steps: tuple[Step, ...] = ()
    following: tuple[Step, ...] = ()
    found: tuple[StepReport, ...] = ()
    warnings: tuple[str, ...] = ()
    commands: tuple[NextCommand, ...] = ()

    @property
    def whole(self) -> tuple[Step, ...]:
        """Every step, in order."""
        return (*self.steps, *self.following)

    def lines(self) -> list[str]:
        """Return the plan as --dry-run prints it."""
        lines = [f"{each.result}: {each.agent}: {each.title}" for each in self.found]
        for number, step in enumerate(self.whole, 1):
            lines.append(f"{number}. {step.agent}: {step.title}")
            lines.extend(f"   - {line}" for line in step.details if line != step.title)
            if step.undo and step not in self.following:
                lines.append(f"   undo: {step.undo}")
        return lines or ["nothing to do"]
