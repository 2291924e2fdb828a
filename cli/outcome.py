"""How a command ended: what it says at the end, on the terminal and as JSON. No I/O."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cli.errors import ExitStatus
from cli.site import AgentName
from cli.typed import NextCommand


class StepResult(enum.StrEnum):
    """What became of a step."""

    DONE = "done"
    IN_PLACE = "in place"
    ABSENT = "not there"
    FOREIGN = "foreign"
    FAILED = "failed"
    UNDONE = "undone"
    KEPT = "kept"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """A step and what became of it; details and warnings are lines for people."""

    agent: AgentName
    title: str
    result: StepResult
    details: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The end of a command: status, one sentence, the steps as they happened, what to know and what to type.

    plan is filled by a dry run only; steps begin with what was there, or was not, before anything was done. locked_by
    is the transaction that stood in the way.
    """

    status: ExitStatus = ExitStatus.DONE
    message: str = ""
    transaction: str = ""
    steps: list[StepReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    commands: list[NextCommand] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    locked_by: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the document that --output json prints."""
        return {
            "status": _WORDS[self.status],
            "exit_status": int(self.status),
            "message": self.message,
            "transaction": self.transaction,
            "hosts": _by_host(self.steps),
            "warnings": self.warnings,
            "commands": [dataclasses.asdict(each) for each in self.commands],
            "plan": self.plan,
        }


_WORDS = {
    ExitStatus.DONE: "done",
    ExitStatus.UNEXPECTED: "unexpected failure",
    ExitStatus.USAGE: "invalid",
    ExitStatus.ROLLED_BACK: "rolled back",
    ExitStatus.UNFINISHED: "not finished",
    ExitStatus.CONFLICT: "conflict",
    ExitStatus.REFUSED: "refused",
    ExitStatus.UNREACHABLE: "unreachable",
}


def _by_host(steps: Iterable[StepReport]) -> list[dict[str, Any]]:
    hosts: dict[AgentName, list[dict[str, Any]]] = {}
    for step in steps:
        entry = {
            "step": step.title,
            "result": step.result.value,
            "details": list(step.details),
            "warnings": list(step.warnings),
        }
        hosts.setdefault(step.agent, []).append(entry)
    return [{"role": agent.role.value, "host": agent.host, "steps": entries} for agent, entries in hosts.items()]
