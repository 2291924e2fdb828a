"""Plans: what a command will do, step by step, as data."""

from __future__ import annotations

from dataclasses import dataclass

from lvsagent.v1 import host_service_pb2

from agent_common.destination import DestinationKey
from agent_common.operation import Operation
from agent_common.virtual_server import VirtualServerKey
from cli.site import AgentName


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
    """Steps in their order, what is in place already, and what the operator should know."""

    steps: tuple[Step, ...] = ()
    in_place: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the plan as --dry-run prints it."""
        lines = [f"in place: {each}" for each in self.in_place]
        for number, step in enumerate(self.steps, 1):
            lines.append(f"{number}. {step.agent}: {step.title}")
            lines.extend(f"   - {line}" for line in step.details)
            if step.undo:
                lines.append(f"   undo: {step.undo}")
        return lines or ["nothing to do"]
