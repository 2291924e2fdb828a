"""The cases of the fault matrix: what dies or is lost, at which step, of which command, on how many hosts."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults import Fault

PLACES = {
    "prepare": ("before_journal", "before_kernel", "after_kernel", "after_journal", "before_reply", "after_reply"),
    "ready": ("before_journal", "after_journal", "before_reply", "after_reply"),
    "commit": ("before_journal", "after_journal", "before_kernel", "after_kernel", "before_reply", "after_reply"),
    "abort": ("before_journal", "after_journal", "before_kernel", "after_kernel", "before_reply", "after_reply"),
    "change": ("before_journal", "before_kernel", "after_kernel", "after_journal", "before_reply", "after_reply"),
}
"""The failpoints of an agent (agent_common/failpoint.py)."""

LAYOUTS = [(4, directors, rs) for directors in (1, 2) for rs in (1, 2, 3)] + [(6, 1, 1)]
"""Family, directors, real servers: everywhere an agent dies at each failpoint, and lvs after each message."""

WITH_LOSSES = [(4, 1, 1), (4, 2, 2), (6, 1, 1)]
"""Where each message is lost, too, or late, or comes twice."""

LOSSES = (Fault.LOST, Fault.ANSWER_LOST, Fault.TWICE, Fault.LATE)


class Command(enum.StrEnum):
    """What is done; the removal takes everything away that the addition has made."""

    ADD = "add"
    REMOVE = "remove"


STEPS = {
    (Command.ADD, "director"): ("prepare", "commit", "abort"),
    (Command.ADD, "realserver"): ("prepare", "ready", "commit", "abort"),
    (Command.REMOVE, "director"): ("prepare", "commit", "change"),
    (Command.REMOVE, "realserver"): ("change",),
}
"""The steps that a role takes in a command."""

NOTHING_IN_THE_KERNEL = {(Command.ADD, "realserver", "commit"), (Command.REMOVE, "director", "prepare")}
"""A real server has all of it by then; what is to be removed is only reserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault: an agent (by its host's name) at a failpoint, or a message by its number."""

    command: Command
    family: int
    directors: int
    real_servers: int
    victim: str = ""
    failpoint: str = ""
    message: int = -1
    fault: Fault | None = None

    def __str__(self) -> str:
        fault = self.fault.name.lower() if self.fault else ""
        what = f"{self.victim}-{self.failpoint}" if self.victim else f"message{self.message}-{fault}"
        return f"{self.command}-ipv{self.family}-{self.directors}d{self.real_servers}r-{what}"


def all_cases() -> list[Case]:
    """Every failpoint of every agent, and every message, of both commands."""
    return [
        case
        for family, directors, real_servers in LAYOUTS
        for command in Command
        if command is Command.ADD or real_servers < 3  # real servers give up one after the other
        for case in _cases(command, family, directors, real_servers)
    ]


def _cases(command: Command, family: int, directors: int, real_servers: int) -> Iterator[Case]:
    def case(**more: object) -> Case:
        counts = {"directors": directors, "real_servers": real_servers}
        return Case(command=command, family=family, **counts, **more)  # type: ignore[arg-type]

    victims = [(f"lb{n}", "director") for n in range(1, directors + 1)]
    victims += [(f"rs{n}", "realserver") for n in range(1, real_servers + 1)]
    for name, role in victims:
        for step in STEPS[command, role]:
            if step == "abort" and directors + real_servers > 3:
                continue
            for place in PLACES[step]:
                if "kernel" not in place or (command, role, step) not in NOTHING_IN_THE_KERNEL:
                    yield case(victim=name, failpoint=f"{role}.{step}.{place}")
    losses = LOSSES if (family, directors, real_servers) in WITH_LOSSES else ()
    for number in range(messages(command, directors, real_servers)):
        for fault in (Fault.KILLED_AFTER, *losses):
            yield case(message=number, fault=fault)


def messages(command: Command, directors: int, real_servers: int) -> int:
    """How many messages a command sends that change something; tests/cli/test_removal.py has their names."""
    if command is Command.ADD:  # prepare and commit everywhere, ready at real servers
        return 2 * directors + 3 * real_servers
    return 4 * directors + real_servers + 1  # prepare, commit, removal and note at directors; the VIP; the end
