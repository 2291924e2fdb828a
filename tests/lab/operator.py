"""Somebody who runs lvs on a site of the lab, as a library in this process or as the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

from agent_common.endpoint import Endpoint
from agent_common.virtual_server import parse_address
from cli.add_backend import add_backend
from cli.client import AgentClient, Clients
from cli.interrupt import Interrupt
from cli.outcome import Outcome, StepReport
from cli.remove_backend import remove_backend
from cli.request import AddBackend, RemoveBackend, SetWeight, parse_backend
from cli.set_weight import set_weight
from cli.site import Site as AgentSite
from cli.workflow import Run
from lab.agents import Agent
from lab.host import Host
from lab.site import VIP, VIP6, Site, diff, snapshot

T = TypeVar("T")

PORT = 10000
LVS = Path(__file__).resolve().parents[2] / ".venv/bin/lvs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """The site, its agents by host name, and commands."""

    site: Site
    agents: Mapping[str, Agent] = field(default_factory=dict)

    @classmethod
    def at(cls, site: Site) -> Operator:
        """Start web servers and agents on every host of the site, all at once."""
        for rs in site.real_servers:
            site.serve_http(rs, PORT, address="::")
        roles = [(host, "director") for host in site.directors] + [(host, "realserver") for host in site.real_servers]
        with ThreadPoolExecutor(len(roles)) as pool:
            agents = pool.map(lambda each: site.start_agent(each[0], each[1], "--failpoints"), roles)
            return cls(site=site, agents={host.name: agent for (host, _), agent in zip(roles, agents, strict=True)})

    def vip(self, family: int, port: int = PORT) -> str:
        """The site's VIP with a port, as --vip takes it."""
        return f"{VIP}:{port}" if family == 4 else f"[{VIP6}]:{port}"

    def rs(self, family: int) -> list[str]:
        """The real servers' addresses."""
        return [address_of(host, family) for host in self.site.real_servers]

    def lvs(self, *argv: str, status: int | None = 0, timeout: float = 60) -> CompletedProcess[str]:
        """Run the command on the director; fails unless it ends with the status."""
        done = self.site.director.run(str(LVS), "--insecure", *argv, check=False, timeout=timeout)
        if status is not None:
            assert done.returncode == status, f"lvs {' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def lvs_json(self, *argv: str, status: int = 0) -> Any:
        """Run the command with --output json, and return the document."""
        return json.loads(self.lvs("--output", "json", *argv, status=status).stdout)

    def add(self, vip: str, rs: Sequence[str], *, protocol: str = "tcp", **options: Any) -> Outcome:
        """Run add-backend as a library, over the agents' unix sockets; on_step is called after each step."""
        on_step = options.pop("on_step", lambda step: None)
        request = AddBackend(backend=parse_backend(vip, rs, protocol), **options)
        return asyncio.run(self._run(lambda run: add_backend(request, run), on_step))

    def remove(self, vip: str, rs: Sequence[str], *, protocol: str = "tcp", **options: Any) -> Outcome:
        """Run remove-backend as a library; on_step is called after each step."""
        on_step = options.pop("on_step", lambda step: None)
        request = RemoveBackend(backend=parse_backend(vip, rs, protocol), **options)
        return asyncio.run(self._run(lambda run: remove_backend(request, run), on_step))

    def weigh(self, vip: str, rs: Sequence[str], *, protocol: str = "tcp", **options: Any) -> Outcome:
        """Run drain, undrain or weight as a library."""
        request = SetWeight(backend=parse_backend(vip, rs, protocol), **options)
        return asyncio.run(self._run(lambda run: set_weight(request, run)))

    def curl(self, vip: str, *, seconds: int = 2) -> str:
        """Ask a VIP from the client; the name of the real server that answers, or nothing."""
        argv = ["curl", "--silent", "--max-time", str(seconds), f"http://{vip}/"]
        return self.site.client.run(*argv, check=False).stdout.strip()

    def leftovers(self) -> list[str]:
        """The real servers of which the director knows that they may still hold a VIP."""
        return [each.real_server for each in self.ask(lambda client: client.host()).leftovers]

    def ask(self, question: Callable[[AgentClient], Awaitable[T]]) -> T:
        """Ask the director's agent something over gRPC."""

        async def answer() -> T:
            async with Clients(self.agent_site(), lambda call: None) as clients:
                return await question(clients[clients.site.director_names()[0]])

        return asyncio.run(answer())

    def snapshots(self, hosts: Iterable[Host] | None = None) -> dict[str, dict[str, str]]:
        """What every host, or some, look like now."""
        return {host.name: snapshot(host) for host in (self.site.hosts if hosts is None else hosts)}

    def differences(self, before: Mapping[str, Mapping[str, str]]) -> str:
        """How the hosts of a snapshot differ from it; empty if they do not."""
        found = {name: diff(before[name], snapshot(self.site.host(name))) for name in before}
        return "\n".join(f"{name}:\n{text}" for name, text in found.items() if text)

    def agent_site(self) -> AgentSite:
        """The agents as the library reaches them from this process: by unix socket, in whatever namespace they are."""
        return AgentSite(
            directors=tuple(Endpoint(path=str(self.agents[host.name].socket)) for host in self.site.directors),
            rs_agents={
                parse_address(address_of(host, family), "rs"): Endpoint(path=str(self.agents[host.name].socket))
                for host in self.site.real_servers
                for family in (4, 6)
            },
        )

    async def _run(self, workflow: Any, on_step: Callable[[StepReport], None] = lambda step: None) -> Outcome:
        async with Clients(self.agent_site(), lambda call: None) as clients:
            outcome: Outcome = await workflow(Run(clients=clients, interrupt=Interrupt(), on_step=on_step))
            return outcome


def told(outcome: Outcome) -> str:
    """What an operator reads at the end: the message, and the commands to type."""
    return "\n".join([outcome.message, *(each.command for each in outcome.commands)])


def address_of(host: Host, family: int) -> str:
    """A host's own address."""
    return host.ipv4 if family == 4 else host.ipv6
