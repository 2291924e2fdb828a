"""A check by a program of the operator's: without a shell, without the agent's capabilities, ended as a group.

What may be run is decided by where it lies and who can write to it; both are looked at before every run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent_common.check import ScriptCheck
from agent_common.checker import Answer, Target
from agent_common.errors import Reason, RefusedError
from agent_common.health import WeightSource
from agent_common.program import Ran, run_program

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NOT_RUN = (126, 127)
"""With these shells and setpriv(1) say that a program could not be run."""

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Scripts:
    """The programs that checks and quorums may have run: those below a folder; None: no program at all."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def allowed(self, argv: Sequence[str], field: str = "") -> None:
        """Raise RefusedError (SCRIPT_NOT_ALLOWED) for what may not be run."""
        self._program(argv, field)

    async def run(self, argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ran:
        """Run a program to its end, or kill it; raises RefusedError (SCRIPT_NOT_ALLOWED).

        Beside the environment that is given it has PATH, and nothing of the agent's.
        """
        program = self._program(argv, "")
        return await run_program((str(program), *argv[1:]), {"PATH": PATH, **environment}, seconds)

    async def check(self, kind: ScriptCheck, target: Target, seconds: float) -> Answer:
        """Run a check's program once."""
        environment = {
            "LVS_ADDRESS": str(target.address),
            "LVS_PORT": str(target.port),
            "LVS_VIRTUAL_SERVER": str(target.virtual_server),
        }
        try:
            ran = await self.run(kind.argv, environment, seconds)
        except RefusedError as error:
            return Answer(passed=False, detail=error.message)
        return _judge(ran, target)

    def _program(self, argv: Sequence[str], field: str) -> Path:
        """Return the program with symbolic links resolved."""
        if self._folder is None:
            why = "scripts are off: script_dir is not set in the director's settings"
            raise _refusal(argv[0], why, field)
        try:
            folder, program = self._folder.resolve(strict=True), Path(argv[0]).resolve(strict=True)
            if why := _problem(program, folder):
                raise _refusal(argv[0], why, field)
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle (until Python 3.13)
            said = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "links in a circle"
            raise _refusal(argv[0], said, field) from error
        return program


def _refusal(program: str, why: str, field: str) -> RefusedError:
    return RefusedError(f"cannot run {program}: {why}", Reason.SCRIPT_NOT_ALLOWED, field=field, program=program)


def _problem(program: Path, folder: Path) -> str:
    """Say why a program is not one of those that may be run, or nothing."""
    if folder not in program.parents:
        return f"it is not below {folder} (script_dir)"
    if not stat.S_ISREG(program.stat().st_mode) or not os.access(program, os.X_OK):
        return "it is no file that can be executed"
    for each in (program, *program.parents[: program.parents.index(folder) + 1]):
        found = each.stat()
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS:
            return f"{each} can be changed by others than root and the agent's user"
    return ""


def _judge(ran: Ran, target: Target) -> Answer:
    if ran.status is None:
        return Answer(passed=False, detail=ran.line)
    detail = f"exit status {ran.status}: {ran.line}" if ran.line else f"exit status {ran.status}"
    dynamic = target.dynamic_weight is not None and target.dynamic_weight.source is WeightSource.SCRIPT_STATUS
    if dynamic and ran.status >= 2 and ran.status not in _NOT_RUN:
        return Answer(passed=True, detail=detail, percent=ran.status - 2)
    return Answer(passed=ran.status == 0, detail=detail)
