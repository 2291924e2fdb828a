"""One run of a command that something happens to: between its steps in this process, or by signals to another one."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

from cli.add_backend import add_backend
from cli.client import Clients
from cli.interrupt import Interrupt
from cli.outcome import Outcome, StepReport
from cli.plan import Plan
from cli.request import AddBackend, parse_backend
from cli.site import AgentName, Role, Site
from cli.workflow import Run
from lab.agents import Agent
from lab.host import Host
from tests.lab.operator import LVS, Operator

PLAN = "plan"
"""Instead of a step's title: after preflight, before the first step."""

PATIENCE_SECONDS = 60.0
ENVIRONMENT = {"LVS_INSECURE": "1"}
"""What an operator of a lab without TLS sets once; the commands that lvs prints then work as they stand."""


def attempt(
    operator: Operator,
    vip: str,
    rs: Sequence[str],
    *,
    after: str = PLAN,
    then: Callable[[], object] = lambda: None,
    interrupt: Interrupt | None = None,
    timeout: float = 10.0,
    lease: float = 60.0,
    site: Site | None = None,
    protocol: str = "tcp",
    **options: Any,
) -> Outcome:
    """Run add-backend as a library; after the plan, or the step whose title so begins, something happens once."""
    request = AddBackend(backend=parse_backend(vip, rs, protocol), **options)
    interrupt = interrupt or Interrupt()

    async def run() -> Outcome:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt.set)  # as the command does
        waiting = [then]

        def reached(what: str) -> None:
            if waiting and what.startswith(after):
                waiting.pop()()

        def on_plan(plan: Plan) -> None:
            reached(PLAN)

        def on_step(step: StepReport) -> None:
            reached(step.title)

        agents = dataclasses.replace(site or operator.agent_site(), timeout=timeout)
        async with Clients(agents, lambda call: None) as clients:
            return await add_backend(
                request, Run(clients=clients, interrupt=interrupt, on_plan=on_plan, on_step=on_step, lease=lease)
            )

    return asyncio.run(run())


def ctrl_c() -> None:
    """What the terminal sends to a command, for one that runs in this process."""
    os.kill(os.getpid(), signal.SIGINT)


def make_answer(operator: Operator, agent: Agent) -> None:
    """Wait until an agent that was stopped has gone through what had waited for it: it answers us."""
    role = Role.DIRECTOR if agent.role == "director" else Role.REAL_SERVER

    async def ask() -> None:
        site = operator.agent_site()
        name = site.director_names()[0].name if role is Role.DIRECTOR else agent.host.ipv4
        async with Clients(site, lambda call: None) as clients:
            await clients[AgentName(role=role, name=name)].host()

    asyncio.run(ask())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the command ended, and all that it printed."""

    status: int
    stdout: str
    stderr: str


class Lvs:
    """The command as a process on the director, or another host; what it says on stderr can be waited for."""

    def __init__(self, operator: Operator, *argv: str, host: Host | None = None) -> None:
        pipe = subprocess.PIPE
        self._title = shlex.join(("lvs", *argv))
        self._popen = (host or operator.site.director).popen(str(LVS), *argv, stdout=pipe, stderr=pipe, env=ENVIRONMENT)
        self._said: list[str] = []
        self._watchdog = threading.Timer(PATIENCE_SECONDS, self._popen.kill)
        self._watchdog.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def until(self, text: str) -> None:
        """Wait for a line of stderr that contains the text."""
        for line in _stream(self._popen.stderr):
            self._said.append(line)
            if text in line:
                return
        raise AssertionError(f"{self._title} never said {text!r}:\n{''.join(self._said)}")

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def end(self) -> Ended:
        """Wait for its end."""
        self._said.extend(_stream(self._popen.stderr))
        stdout = _stream(self._popen.stdout).read()
        status = self._popen.wait()
        self._watchdog.cancel()
        return Ended(status=status, stdout=stdout, stderr="".join(self._said))


def run_printed(operator: Operator, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that lvs has printed, as it stands, on the director."""
    program, *argv = shlex.split(command)
    assert program == LVS.name, command
    return operator.site.director.run(str(LVS), *argv, check=False, timeout=PATIENCE_SECONDS, env=ENVIRONMENT)


def printed_command(text: str) -> str:
    """The first command that stands on a line of its own; there must be one."""
    found = [line.strip() for line in text.splitlines() if line.startswith("  lvs ")]
    assert found, f"no command is printed:\n{text}"
    return found[0]


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
