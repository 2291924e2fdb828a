"""A director, a real server and a coordinator, each a machine of its own, and what can be seen of them."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import agents
from lab.agents import Role
from lab.host import Host
from lab.machine import DISK, Machine, Switch, plugged, write_whole
from lab.snapshot import COMMANDS, CONF, SYSCTLS
from tests.power.cases import Part

PORT = 10000
VIP = "192.168.0.200"
"""The VIP of the backend that comes and goes (direct routing)."""

KEPT_VIP = "192.168.0.201"
"""The VIP of one that was acknowledged long ago, and stays. By NAT: the real server has nothing of it."""

STATE = Path(DISK) / "state"
START_SECONDS = 120.0
"""It takes 6 s; several times that where all processors are busy."""

DIRECTOR = Host(name="lb1", ipv4="192.168.0.10", ipv6="2001:db8::10", mac="02:00:c0:a8:00:0a")
REAL_SERVER = Host(name="rs1", ipv4="192.168.0.104", ipv6="2001:db8::104", mac="02:00:c0:a8:00:68")
COORDINATOR = Host(name="client", ipv4="192.168.0.50", ipv6="2001:db8::50", mac="02:00:c0:a8:00:32")

PYTHON = "/usr/bin/python3 -I -S"

Snapshot = dict[str, str]


@dataclass(slots=True, kw_only=True)
class AgentMachine:
    """A machine whose agent starts at boot, and is watched while it does."""

    machine: Machine
    role: Role

    @classmethod
    @contextlib.contextmanager
    def made(cls, switch: Switch, host: Host, role: Role, processor: int) -> Iterator[AgentMachine]:
        """It has no power yet."""
        with Machine.made(switch, host, "", processor) as machine:
            agent = cls(machine=machine, role=role)
            agent.use()
            yield agent

    def use(self, *, synced: bool = True, failpoint: str = "") -> None:
        """From the next boot on, run the shipped agent or the control; it may die already while it starts."""
        host = self.machine.host
        argv = agents.command(host, self.role, ("--failpoints",), STATE, ())
        if not synced:
            argv = ("python", "-m", "tests.power.unsynced", self.role, *argv[1:])
        self.machine.start = f"""
            mkdir -p /run/{host.name}
            rm -f /run/out/ended
            : >/run/out/log
            mkdir -p {STATE}; echo '{failpoint}' >{STATE}/failpoint     # that of an earlier life may be on the disk
            {PYTHON} tests/power/watch.py {VIP} {KEPT_VIP} >/run/out/seen 2>&1 &
            {PYTHON} lab/web.py http :: {PORT} {host.name} >/run/out/web 2>&1 &
            ({shlex.join(argv)} >>/run/out/log 2>&1; echo $? >/run/out/ended) &
        """

    def wait(self) -> None:
        """Wait until the agent serves; nobody but the boot has started it."""
        outside = self.machine.outside
        serves = f"listens on unix:/run/{self.machine.host.name}/"
        until(lambda: serves in (outside / "log").read_text() or self.has_ended(), f"{self.role} does not serve")
        assert not self.has_ended(), (outside / "log").read_text()

    def has_ended(self) -> bool:
        """Whether the agent is gone while its host is not."""
        return (self.machine.outside / "ended").exists()

    def seen(self) -> list[str]:
        """The states of the host since it has booted (tests/power/watch.py), the first first."""
        return (self.machine.outside / "seen").read_text().splitlines()

    def snapshot(self) -> Snapshot:
        """What an operator sees on the host, each command's lines in order: who came first does not count."""
        lines = [*COMMANDS, *(f"grep . {CONF}/*/{name}" for name in SYSCTLS)]
        mark = "=" * 20
        text = self.machine.bash(" && ".join(f"{line} && echo {mark}" for line in lines)).stdout
        texts = zip(lines, text.split(f"{mark}\n"), strict=False)
        return {line: "".join(sorted(printed.splitlines(keepends=True))) for line, printed in texts}

    def settles_as(self, *wanted: Snapshot, patience: float = 0.0) -> Snapshot:
        """What it looks like, as soon as that is one of those wanted, or after so many seconds."""
        deadline = time.monotonic() + patience
        while (now := self.snapshot()) not in wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        return now


@dataclass(slots=True, kw_only=True)
class PowerSite:
    """The machines, and orders for the coordinator."""

    director: AgentMachine
    real_server: AgentMachine
    coordinator: Machine
    _orders: int = 0
    without: dict[str, Snapshot] = field(default_factory=dict)
    """The hosts without the backend that comes and goes, and in `with_it` with it."""
    with_it: dict[str, Snapshot] = field(default_factory=dict)
    workflow_seconds: float = 0.0
    """How long it takes to add it here."""

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[PowerSite]:
        """A site that runs, with one backend, acknowledged; and it is known what a second one makes of it."""
        with (
            plugged() as switch,
            AgentMachine.made(switch, DIRECTOR, "director", 0) as director,
            AgentMachine.made(switch, REAL_SERVER, "realserver", 1) as real_server,
            Machine.made(switch, COORDINATOR, "", 1) as coordinator,
        ):
            coordinator.start = "mkdir -p /run/out/orders; python -m tests.power.coordinator /run/out/orders &"
            site = cls(director=director, real_server=real_server, coordinator=coordinator)
            coordinator.power_on()
            site.boot()
            coordinator.wait()
            site.settle()
            yield site

    @property
    def agents(self) -> list[AgentMachine]:
        """The director's and the real server's."""
        return [self.director, self.real_server]

    def with_part(self, host: str, part: Part) -> Snapshot:
        """What a host looks like with so much of the backend."""
        match part:
            case Part.NOTHING:
                return self.without[host]
            case Part.ALL:
                return self.with_it[host]
        lines = self.with_it[host]["ipvsadm -Sn"].splitlines(keepends=True)
        rules = "".join(line for line in lines if not line.startswith(f"-a -t {VIP}:"))
        return {**self.with_it[host], "ipvsadm -Sn": rules}

    def has_dead_agent(self) -> bool:
        """Whether an agent is gone while its host is not."""
        return any(each.has_ended() for each in self.agents)

    def named(self, name: str) -> list[AgentMachine]:
        """One of them, or with an empty name all."""
        return [each for each in self.agents if name in ("", each.machine.host.name)]

    def settle(self) -> None:
        """Make the backend that stays; and see what the hosts are like without the other one, and with it."""
        self.must(self.order("add", vip=KEPT_VIP, forward="nat"))
        self.without = self.snapshots()
        began = time.monotonic()
        self.must(self.order("add"))
        self.workflow_seconds = time.monotonic() - began
        self.with_it = self.snapshots()
        self.must(self.order("remove"))
        assert self.snapshots() == self.without

    def snapshots(self) -> dict[str, Snapshot]:
        """What the hosts look like now."""
        return {each.machine.host.name: each.snapshot() for each in self.agents}

    def run_agents(self, *, synced: bool = True, failpoint: str = "") -> None:
        """From the next boot on, run the shipped agents, or those of the control (tests/power/unsynced.py)."""
        for each in self.agents:
            each.use(synced=synced, failpoint=failpoint)

    def cut_power(self, name: str = "") -> None:
        """Take the power from one host, or from all at once."""
        for each in self.named(name):
            each.machine.cut_power()

    def boot(self, name: str = "") -> None:
        """Give it back, and wait until their agents serve."""
        self.power_on(name)
        for each in self.named(name):
            each.wait()

    def power_on(self, name: str = "") -> None:
        """Give it back, and wait until they have booted; their agents are starting then."""
        for each in self.named(name):
            each.machine.power_on()
        for each in self.named(name):
            each.machine.wait()

    def ask_vip(self) -> str:
        """Ask the VIP from a third host; the name of the real server that answers, or nothing."""
        url = f"http://{VIP}:{PORT}/"
        return self.coordinator.run("curl", "--silent", "--max-time", "10", url, check=False).stdout.strip()

    def order(self, workflow: str, **more: Any) -> dict[str, Any]:
        """Have the coordinator run a workflow to its end."""
        return self.answer(self.begin(workflow, **more))

    def begin(self, workflow: str, **more: Any) -> int:
        """Have it begin; the number is for `answer`."""
        self._orders += 1
        order = {
            "workflow": workflow,
            "director": DIRECTOR.ipv4,
            "rs": REAL_SERVER.ipv4,
            "vip": VIP,
            "lease": 300.0,
            "timeout": 30.0,
            **more,
        }
        order["vip"] = f"{order['vip']}:{PORT}"
        write_whole(self._folder / f"{self._orders}.order", json.dumps(order))
        return self._orders

    def answer(self, number: int, or_else: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Wait for the answer to an order; or until something is so, then it is empty."""
        file = self._folder / f"{number}.answer"
        until(lambda: file.exists() or or_else(), "the coordinator does not answer")
        answer: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return answer

    def kill(self) -> None:
        """Kill the coordinator in the middle of what it does, if it has not ended."""
        if not (self._folder / f"{self._orders}.answer").exists():
            write_whole(self._folder / "kill", "")

    def is_held(self) -> bool:
        """Whether the coordinator holds a message."""
        return (self._folder / "held").exists()

    def go_on(self) -> None:
        """Let it go on."""
        (self._folder / "held").unlink()
        write_whole(self._folder / "go", "")

    def told(self) -> str:
        """What the hosts have said and were seen to be since their boot, and all that was asked of the coordinator."""
        texts = []
        for each in self.agents:
            for name in ("stdout", "log", "seen"):
                texts.append(f"--- {each.machine.host.name}: {name}\n{(each.machine.outside / name).read_text()}")
        for number in range(1, self._orders + 1):
            for kind in ("order", "answer"):
                file = self._folder / f"{number}.{kind}"
                texts.append(file.read_text() if file.exists() else f"no {kind}")
        return "\n".join(texts)

    def must(self, answer: dict[str, Any]) -> None:
        """Fail unless a workflow ended well."""
        assert answer.get("status") == "DONE", answer

    @property
    def _folder(self) -> Path:
        folder = self.coordinator.outside / "orders"
        folder.mkdir(exist_ok=True)
        return folder


def until(is_so: Callable[[], bool], otherwise: str) -> None:
    """Wait until something is so; fails after a time in which anything can start."""
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
