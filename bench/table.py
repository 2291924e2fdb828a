"""A whole table through lvs and through ipvsadm, in the same guest: time as ratios, and memory.

    python -m bench.table

Run by `make bench`: 500 virtual servers of 20 destinations each, then five times as many. Everything is counted that an
operator waits for: the start of the program, the reading of the rules, gRPC, the journal, the kernel.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agent_common.endpoint import Endpoint
from cli.client import Clients
from cli.reading import list_virtual_servers
from cli.site import Site as AgentSite
from lab.agents import Agent
from lab.host import Host
from lab.site import Site

RUNS = 3
SERVERS, DESTINATIONS, TIMES = 500, 20, 5
RESTORE, AGENT, EQUAL, LIST = (
    "lvs restore",
    "the agent's part",
    "lvs restore --replace, nothing to do",
    "list over gRPC",
)
LIMITS = {RESTORE: 0.6, AGENT: 0.3, EQUAL: 0.3, LIST: 2.0}
BASES = {LIST: "ipvsadm -Ln"}
USUAL_BASE = "ipvsadm -R"
LINEAR = 1.3
"""How much more one rule of a large table may take than one of a small one."""
CLIENT_MIB, AGENT_MIB = 150, 200


class Verdict:
    """Figures with their limits; missed: one was not kept."""

    def __init__(self) -> None:
        self.missed = False

    def tell(self, text: str, figure: float, limit: float | None, unit: str) -> None:
        """Print a figure, and whether it is within its limit."""
        bad = limit is not None and figure > limit
        told = "" if limit is None else f"   (at most {limit:g}{', missed' if bad else ''})"
        print(f"{text:52} {figure:7.2f} {unit}{told}", flush=True)
        self.missed |= bad


def main() -> int:
    """Restore and clear by turns; print the best of some runs, and how they compare."""
    verdict = Verdict()
    with Site.make(real_servers=1) as site:
        agent = site.start_agent(site.director, "director")
        small = best_of(RUNS, site.director, agent, Path("/run/rules"), SERVERS)
        print(f"{SERVERS} virtual servers x {DESTINATIONS} destinations, best of {RUNS}:")
        for name, seconds in small.items():
            base = BASES.get(name, USUAL_BASE)
            verdict.tell(f"{name:38} {seconds:6.2f} s", seconds / small[base], LIMITS.get(name), f"x {base}")
        large = best_of(1, site.director, agent, Path("/run/many"), SERVERS * TIMES)
        print(f"{TIMES} times as many, once, each a rule beside what it took above:")
        for name in (RESTORE, AGENT, EQUAL, LIST):
            seconds = large[name]
            verdict.tell(f"{name:38} {seconds:6.2f} s", seconds / small[name] / TIMES, LINEAR, "x a rule")
        verdict.tell("lvs, at most", client_mib(site.director, Path("/run/many")), CLIENT_MIB, "MiB")
        verdict.tell("the agent, at most", peak_mib(agent), AGENT_MIB, "MiB")
    return int(verdict.missed)


def best_of(runs: int, director: Host, agent: Agent, rules: Path, servers: int) -> dict[str, float]:
    """Measure a table of so many virtual servers some times; the best of each, in seconds."""
    rules.write_text("".join(f"{line}\n" for line in write(servers)))
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, seconds in measure(director, agent, rules):
            times.setdefault(name, []).append(seconds)
    return {name: min(each) for name, each in times.items()}


def write(servers: int) -> Iterator[str]:
    """The rules, as ipvsadm-save prints them."""
    for server in range(servers):
        key = f"-t 10.{server // 250}.{server % 250}.1:80"
        yield f"-A {key} -s wlc"
        for each in range(DESTINATIONS):
            yield f"-a {key} -r 10.{100 + each}.{server // 250}.{server % 250 + 1}:80 -g -w 1"


def measure(director: Host, agent: Agent, rules: Path) -> Iterator[tuple[str, float]]:
    """Restore with each, from an empty table."""
    yield USUAL_BASE, timed(lambda: director.run("ipvsadm", "-R", input=rules.read_text(), timeout=300))
    yield "ipvsadm -Ln", timed(lambda: director.run("ipvsadm", "-Ln", timeout=300))
    director.run("ipvsadm", "-C")
    yield from lvs(director, rules, RESTORE, AGENT)
    yield LIST, asyncio.run(list_table(agent))
    yield from lvs(director, rules, EQUAL, "", "--replace")
    director.run("ipvsadm", "-C")
    yield "brought back by an agent that starts", timed(lambda: started_again(agent))
    empty = rules.with_suffix(".empty")
    empty.write_text("")
    yield from lvs(director, empty, "lvs restore --replace, with no rules", "", "--replace")


def lvs(director: Host, rules: Path, name: str, its_part: str, *options: str) -> Iterator[tuple[str, float]]:
    """Run lvs restore with --debug, which says what the agent's calls took."""
    said = []
    argv = ("lvs", "--insecure", "--debug", "restore", *options, str(rules))
    yield name, timed(lambda: said.append(director.run(*argv, timeout=300).stderr))
    calls = re.findall(r"^debug\s+([0-9.]+) ms .*IpvsService/ApplyTable", said[0], re.MULTILINE)
    if its_part:
        yield its_part, sum(map(float, calls)) / 1000


def started_again(agent: Agent) -> None:
    """It takes connections when what was committed is back."""
    agent.restart()
    assert "->" in agent.host.out("ipvsadm", "-Ln")  # noqa: S101  # a bench of nothing would be a fine one


async def list_table(agent: Agent) -> float:
    """How long a client that is there waits for the whole table, in seconds."""
    site = AgentSite(directors=(Endpoint(path=str(agent.socket)),), rs_agents={}, timeout=60)
    async with Clients(site, lambda call: None) as clients:
        client = clients[site.director_names()[0]]
        await client.host()
        begun = time.monotonic()
        await list_virtual_servers(client)
        return time.monotonic() - begun


def client_mib(director: Host, rules: Path) -> float:
    """The most memory that lvs has had at once, while it restores a table."""

    def run() -> int:
        process = subprocess.Popen(("lvs", "--insecure", "restore", str(rules)), stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0  # noqa: S101  # one that fails has not had it all in memory
        return usage.ru_maxrss

    return director.inside(run) / 1024


def peak_mib(agent: Agent) -> float:
    """The most memory that an agent has had at once."""
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


def timed(work: Callable[[], object]) -> float:
    """How long something takes, in seconds."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
