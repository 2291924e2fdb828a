"""When the power is cut, and what must be there when it is back, before anybody gives a command."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults import Fault


class Part(enum.Enum):
    """What a host has of the backend."""

    NOTHING = "nothing"
    ALL = "all"
    NO_DESTINATION = "all but the destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the two hosts have."""

    director: Part
    real_server: Part


NOWHERE = Kept(director=Part.NOTHING, real_server=Part.NOTHING)
READY = Kept(director=Part.NOTHING, real_server=Part.ALL)
EVERYWHERE = Kept(director=Part.ALL, real_server=Part.ALL)
LEAVING = Kept(director=Part.NO_DESTINATION, real_server=Part.ALL)
GIVEN_UP = Kept(director=Part.NO_DESTINATION, real_server=Part.NOTHING)

KEPT = {
    # Prepare and Ready at the real server, between them Prepare at the director; Commit there (the decision) and here.
    "add": [NOWHERE, NOWHERE, NOWHERE, READY, EVERYWHERE, EVERYWHERE],
    # Prepare, Commit (the decision) and DeleteDestination at the director, DeleteVip at the real server; and at the
    # director DeleteDestination (now without a note of the real server), the batch that prunes (not counted), Finish.
    "remove": [EVERYWHERE, EVERYWHERE, LEAVING, LEAVING, GIVEN_UP, GIVEN_UP, NOWHERE],
}
"""By how many messages were answered."""

IN_THE_END = {workflow: states[-1] for workflow, states in KEPT.items()}
"""What is acknowledged."""

READY_MESSAGE = 2
FINISH_MESSAGE = 5

FAILPOINTS = {
    "add": {
        "director.prepare.before_journal": NOWHERE,
        "director.prepare.before_kernel": NOWHERE,
        "director.prepare.after_kernel": NOWHERE,
        "director.prepare.after_journal": NOWHERE,
        "director.commit.before_journal": READY,
        "director.commit.after_journal": EVERYWHERE,
        "director.commit.before_kernel": EVERYWHERE,
        "director.commit.after_kernel": EVERYWHERE,
        "director.abort.before_journal": NOWHERE,
        "director.abort.after_journal": NOWHERE,
        "director.abort.before_kernel": NOWHERE,
        "director.abort.after_kernel": NOWHERE,
        "realserver.prepare.before_journal": NOWHERE,
        "realserver.prepare.before_kernel": NOWHERE,
        "realserver.prepare.after_kernel": NOWHERE,
        "realserver.prepare.after_journal": NOWHERE,
        "realserver.ready.before_journal": NOWHERE,
        "realserver.ready.after_journal": READY,
        "realserver.commit.before_journal": EVERYWHERE,
        "realserver.commit.after_journal": EVERYWHERE,
        "realserver.abort.before_journal": NOWHERE,
        "realserver.abort.after_journal": NOWHERE,
        "realserver.abort.before_kernel": NOWHERE,
        "realserver.abort.after_kernel": NOWHERE,
    },
    "remove": {
        "director.prepare.before_journal": EVERYWHERE,
        "director.prepare.after_journal": EVERYWHERE,
        "director.commit.before_journal": EVERYWHERE,
        "director.commit.after_journal": LEAVING,
        "director.commit.before_kernel": LEAVING,
        "director.commit.after_kernel": LEAVING,
        "realserver.change.before_kernel": LEAVING,
        "realserver.change.after_kernel": LEAVING,
        "director.change.before_kernel": GIVEN_UP,
        "director.change.after_kernel": GIVEN_UP,
    },
}
"""Where an agent dies (agent_common/failpoint.py) and the power is cut right then."""

AT_BOOT = {
    "director.abort": ("before_journal", "after_journal", "before_kernel", "after_kernel"),
    "realserver.abort": ("before_journal", "after_journal", "before_kernel", "after_kernel"),
    "director.commit": ("before_kernel", "after_kernel"),
}
"""Where an agent dies while it starts after the power cut, and the power is cut again."""

MOMENTS = 12
"""So many times the power is cut at a moment that nobody chose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One power cut. `victim` is the host that loses it (empty: all); at_boot is a failpoint of the next boot."""

    workflow: str
    message: int = -1
    fault: Fault | None = None
    failpoint: str = ""
    victim: str = ""
    moment: int = -1
    at_boot: str = ""
    kept: Kept | None = None
    """None: that depends on whether the decision was on disk."""

    def __str__(self) -> str:
        if self.moment >= 0:
            return f"{self.workflow}-moment{self.moment}"
        fault = f"message{self.message}-{self.fault.name.lower()}" if self.fault else ""
        what = self.failpoint or fault
        more = f"-only-{self.victim}" if self.victim else f"-then-{self.at_boot}" if self.at_boot else ""
        return f"{self.workflow}-{what}{more}"


def all_cases() -> list[Case]:
    """Every one of them."""
    return [*(case for workflow in KEPT for case in _cases(workflow)), *_again()]


def _cases(workflow: str) -> Iterator[Case]:
    states = KEPT[workflow]
    for number in range(len(states) - 1):
        is_pruned = workflow == "remove" and number == FINISH_MESSAGE
        before = NOWHERE if is_pruned else states[number]
        yield Case(workflow=workflow, message=number, fault=Fault.KILLED_BEFORE, kept=before)
        yield Case(workflow=workflow, message=number, fault=Fault.KILLED_AFTER, kept=states[number + 1])
    for failpoint, kept in FAILPOINTS[workflow].items():
        is_abort = ".abort." in failpoint  # something else must fail for anybody to be asked to abort
        yield Case(
            workflow=workflow,
            failpoint=failpoint,
            message=READY_MESSAGE if is_abort else -1,
            fault=Fault.LOST if is_abort else None,
            kept=kept,
        )
    for victim in ("lb1", "rs1"):
        for number in range(len(states) - 1):
            yield Case(workflow=workflow, message=number, fault=Fault.HELD_BEFORE, victim=victim)
        yield Case(workflow=workflow, message=len(states) - 2, fault=Fault.HELD_AFTER, victim=victim)
    for moment in range(MOMENTS // len(KEPT)):
        yield Case(workflow=workflow, moment=moment)


def _again() -> Iterator[Case]:
    """The power is cut a second time, while the agents bring back what the first one has taken."""
    for step, places in AT_BOOT.items():
        for place in places:
            at_boot = f"{step}.{place}"
            match step:
                case "director.abort":  # undecided, and the real server is READY
                    yield Case(workflow="add", message=2, fault=Fault.KILLED_AFTER, at_boot=at_boot, kept=READY)
                case "realserver.abort":  # undecided everywhere
                    yield Case(workflow="add", message=1, fault=Fault.KILLED_AFTER, at_boot=at_boot, kept=NOWHERE)
                case _:  # decided, and not in the kernel
                    failpoint = "director.commit.after_journal"
                    yield Case(workflow="add", failpoint=failpoint, at_boot=at_boot, kept=EVERYWHERE)
