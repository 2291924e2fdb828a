"""What can go wrong between the command and an agent, beside what the agent itself says."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

from agent_common import errors
from agent_common.errors import UNFINISHED, InternalError, LvsError
from cli.site import AgentName


class ExitStatus(enum.IntEnum):
    """Exit statuses of the command line (DESIGN.md section 5)."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    ROLLED_BACK = 10
    UNFINISHED = 11
    CONFLICT = 12
    REFUSED = 13
    UNREACHABLE = 14


class NoAnswerError(Exception):
    """An agent did not answer. sent says whether the question may have reached it: then nobody knows what it did.

    lost: the connection ended, so that another may have an answer at once. unknown: it does not know what it was asked.
    """

    def __init__(self, agent: str, why: str, *, sent: bool, lost: bool = False, unknown: bool = False) -> None:
        super().__init__(f"{agent}: {why}")
        self.agent = agent
        self.why = why
        self.sent = sent
        self.lost = lost
        self.unknown = unknown


class Interrupted(Exception):  # noqa: N818  # it is no error, but the operator's wish
    """Ctrl-C or SIGTERM."""


Failure = LvsError | NoAnswerError | Interrupted


def text_of(error: LvsError | NoAnswerError | Interrupted | None) -> str:
    """Return what people are told of a failure."""
    return error.message if isinstance(error, LvsError) else str(error)


def status_of(error: LvsError | NoAnswerError) -> ExitStatus:
    """Return the exit status of a failure before the first change."""
    match error:
        case NoAnswerError():
            return ExitStatus.UNREACHABLE
        case errors.InvalidInputError():
            return ExitStatus.USAGE
        case errors.ConflictError():
            return ExitStatus.CONFLICT
        case (
            errors.RefusedError()
            | errors.DiffersError()
            | errors.NotFoundError()
            | errors.UnknownCallerError()
            | errors.DeniedError()
        ):
            return ExitStatus.REFUSED
        case _:
            return ExitStatus.UNEXPECTED


def may_have_changed(error: Failure) -> bool:
    """Whether an agent may have done something all the same: no answer, a defect, or an undo of its own that failed."""
    if isinstance(error, NoAnswerError):
        return error.sent
    return isinstance(error, InternalError) or (isinstance(error, LvsError) and UNFINISHED in error.metadata)


@contextlib.contextmanager
def naming(agent: AgentName) -> Iterator[None]:
    """Add to what an agent refuses which agent it was."""
    try:
        yield
    except LvsError as error:
        error.message = f"{agent}: {error.message}"
        raise
