"""The agents that take part in a transaction, each with its part of the plan. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lvsagent.v1 import host_service_pb2

from agent_common.errors import LvsError
from agent_common.operation import Change, Operation
from agent_common.transaction import FAILED_OPERATION, Following, Participant, is_inert, tag
from cli.plan import Plan, Step
from cli.site import AgentName, Role

_KINDS = {
    Role.DIRECTOR: host_service_pb2.AGENT_KIND_DIRECTOR,
    Role.REAL_SERVER: host_service_pb2.AGENT_KIND_REALSERVER,
}


@dataclass(slots=True, kw_only=True)
class Member:
    """An agent that takes part, and its steps with operations; fence is 0 until it has prepared."""

    agent: AgentName
    agent_id: str
    steps: tuple[Step, ...]
    fence: int = 0
    may_have_prepared: bool = False

    @property
    def operations(self) -> list[Operation]:
        """Return all that it is asked for, in order."""
        return [operation for step in self.steps for operation in step.operations]

    @property
    def etag(self) -> str:
        """Return the tag of what it said that it would do; empty if it was not asked about all of it."""
        planned = [change for step in self.steps for change in step.planned]
        return tag(planned) if len(planned) == len(self.operations) else ""

    @property
    def reserving(self) -> list[Step]:
        """Return the steps that are done by the commit."""
        return [step for step in self.steps if not all(is_inert(operation) for operation in step.operations)]

    def step_of(self, error: LvsError, otherwise: Step) -> Step:
        """Return the step whose operation an agent has refused."""
        number = int(error.metadata.get(FAILED_OPERATION, "-1"))
        for step in self.steps:
            if 0 <= number < len(step.operations):
                return step
            number -= len(step.operations)
        return otherwise

    def changes_of(self, step: Step, changes: Sequence[Change]) -> Sequence[Change]:
        """Return those of one step, of the changes of all operations."""
        first = sum(len(each.operations) for each in self.steps[: self.steps.index(step)])
        return changes[first : first + len(step.operations)]


def participant(agent: AgentName, agent_id: str) -> Participant:
    """Return an agent as the others keep it."""
    return Participant(kind=_KINDS[agent.role], agent_id=agent_id, address=agent.name)


def members_of(plan: Plan) -> dict[AgentName, Member]:
    """Return the authority and everybody who has operations: it first, then other directors, then real servers."""
    members = {
        agent: Member(
            agent=agent,
            agent_id=agent_id,
            steps=tuple(step for step in plan.whole if step.agent == agent and step.operations),
        )
        for agent, agent_id in plan.agents.items()
    }
    authority = next(iter(members))
    return {agent: each for agent, each in members.items() if agent == authority or each.steps}


def following_of(plan: Plan) -> list[Following]:
    """Return what is left for whoever finishes, as the authority keeps it."""
    return [
        Following(
            agent=participant(step.agent, plan.agents.get(step.agent, "")),
            title=step.title,
            operations=step.operations,
        )
        for step in plan.after
    ]
