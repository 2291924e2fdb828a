"""Plans: what a command will do, step by step, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lvsagent.v1 import health_service_pb2, host_service_pb2

from agent_common import wire
from agent_common.destination import DestinationKey
from agent_common.operation import Change, Operation
from agent_common.virtual_server import VirtualServerKey
from cli.outcome import StepReport, StepResult
from cli.site import AgentName
from cli.typed import NextCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that one agent is asked to do.

    Operations (all or none of them), or to wait until something listens, a check passes, or a destination has no
    connections left.

    title says what it does, undo what takes it back; planned are the changes that its operations will make, if the
    agent was asked.
    details are what it does, a line each; wildcard_warning is said if what listens is bound to the wildcard address.
    """

    agent: AgentName
    title: str
    undo: str = ""
    operations: tuple[Operation, ...] = ()
    planned: tuple[Change, ...] = ()
    listener: host_service_pb2.CheckListenerRequest | None = None
    check: health_service_pb2.ProbeDestinationRequest | None = None
    seconds: float = 0.0
    wildcard_warning: str = ""
    details: tuple[str, ...] = ()
    drained: tuple[VirtualServerKey, DestinationKey] | None = None


def report_made(step: Step, changes: Sequence[Change]) -> StepReport:
    """Return the report of a step whose operations an agent has carried out."""
    result = StepResult.ABSENT if any(change.gone for change in changes) else StepResult.IN_PLACE
    return StepReport(
        agent=step.agent,
        title=step.title,
        result=StepResult.DONE if any(change.made for change in changes) else result,
        details=tuple(line for change in changes for line in change.actions),
        warnings=tuple(line for change in changes for line in change.warnings),
    )


def edited_meanwhile(step: Step, changes: Sequence[Change]) -> list[str]:
    """Return what somebody has removed or added by hand since an agent planned the step, a line each."""
    lines = [line for change in changes if change.gone for line in change.warnings]
    for planned, change in zip(step.planned, changes, strict=False):  # not every step was planned by its agent
        if planned.made and change.foreign and not change.made:
            key = wire.unpack_destination_key(change.destination.after.key)
            lines.append(f"{key} was added by somebody else, and stays as it is")
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in their order, what was found as it is, what the operator should know, and what to type some day.

    agents are the identities of all agents that may take part, the authority first; purpose says in a few words what
    it is for. Carried out as a transaction, what is not inert of the authority's steps is the decision: until then a
    failure takes everything back, and what follows goes only forward. after is what is left for whoever finishes, once
    the connections of what is drained have had drain_timeout seconds.
    """

    purpose: str = ""
    agents: Mapping[AgentName, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    following: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    drain_timeout: float = 0.0
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
