"""Runs the programs that a policy names for a quorum that is lost or regained, those of a virtual server in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from agent_common.errors import LvsError
from agent_common.program import Ran
from agent_common.virtual_server import VirtualServerKey

COMMAND_SECONDS = 60.0
"""So long a command of a quorum may run."""

_log = logging.getLogger(__name__)

RunCommand = Callable[[Sequence[str], Mapping[str, str], float], Awaitable[Ran]]
"""Runs a program with an environment, for so many seconds at most; raises RefusedError for one that is not allowed."""


class QuorumCommands:
    """Has commands run beside everything else; each waits for the one before of the same virtual server.

    What was last said is to be last done: one that takes long must not undo it.
    """

    def __init__(self, run_command: RunCommand) -> None:
        self._run_command = run_command
        self._last: dict[VirtualServerKey, asyncio.Task[None]] = {}

    def run(self, argv: Sequence[str], key: VirtualServerKey, *, has_quorum: bool) -> None:
        """Have a command run, if there is one; what goes wrong with it is said in the log."""
        if argv:
            work = self._run(argv, key, has_quorum=has_quorum, before=self._last.get(key))
            self._last[key] = asyncio.ensure_future(work)

    async def finish(self) -> None:
        """Wait, as long as one may run, for those that have begun: what was lost is told once, and not at a restart."""
        running = [each for each in self._last.values() if not each.done()]
        if running:
            await asyncio.wait(running, timeout=COMMAND_SECONDS)

    async def _run(
        self, argv: Sequence[str], key: VirtualServerKey, *, has_quorum: bool, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        environment = {"LVS_VIRTUAL_SERVER": str(key), "LVS_QUORUM": "up" if has_quorum else "down"}
        try:
            ran = await self._run_command(argv, environment, COMMAND_SECONDS)
        except LvsError as error:
            _log.warning("health: %s: %s", key, error.message)
            return
        if ran.status != 0:
            said = ran.line if ran.status is None else f"exit status {ran.status}: {ran.line}"
            _log.warning("health: command %s of %s failed: %s", argv[0], key, said)
