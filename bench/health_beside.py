"""What checks cost beside keepalived's, in the lab: the same destinations, the same listeners, one after the other.

    python -m bench.health_beside [EACH [SECONDS]]

EACH (1000) destinations are checked by TCP and as many by HTTP, every 5 s, by lvs-director on one director and by
keepalived on another; each alone, for SECONDS (30). And how long it takes from a check that fails to weight 0.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lvsagent.v1 import health_pb2

from agent_common import wire
from agent_common.check import Check, HttpCheck, Kind, TcpCheck
from agent_common.endpoint import Endpoint
from agent_common.health import Floor, HealthPolicy, Start
from agent_common.virtual_server import VirtualServerKey, parse_key
from agent_common.wire_health import pack_policy
from cli.client import Clients
from cli.site import Site as AgentSite
from lab.agents import Agent
from lab.host import Host
from lab.servers import keepalived, nginx
from lab.site import VIP, Site

A_SERVER = 50
INTERVAL = 5.0
WARM_UP = 3 * INTERVAL
PORTS = (8001, 8002)
ROUNDS = 20
MOST_REACTION = 0.02

LISTENER = "from bench.health import listen; listen([8001, 8002])"


def main() -> int:
    """Print what each takes, and how fast ours reacts."""
    each = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    with Site.make(real_servers=1, directors=2) as site:
        _prepare(site)
        agent = site.start_agent(site.directors[0], "director", "--insecure")
        took = sorted(_reactions(site, agent))
        print(f"from a check that failed to weight 0 in the kernel: {_spread(took)}", flush=True)
        missed = statistics.median(took) > MOST_REACTION
        _restore(site.directors[0], each)
        asyncio.run(_set_policies(agent, each))
        ours = _share({agent.pid}, seconds)
        print(f"lvs-director: {ours:.1%} of the guest's processor, {2 * each} checks in {INTERVAL:g} s", flush=True)
        agent.kill()
        server = keepalived.start(site.directors[1], *_their_servers(each))
        theirs = _share(_group(server.pid), seconds)
        print(f"keepalived:   {theirs:.1%}; ours is {ours / theirs:.1f} times that", flush=True)
    return int(missed)


def _prepare(site: Site) -> None:
    """Give the real server an address for each destination, and directors the way to them."""
    rs = site.real_servers[0]
    rs.run("ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo")
    for director in site.directors:
        director.run("ip", "route", "add", "10.1.0.0/16", "via", rs.ipv4)
    listener = rs.popen(sys.executable, "-c", LISTENER)
    assert listener.stdout is not None  # noqa: S101
    listener.stdout.readline()


def _targets(each: int) -> Iterator[tuple[int, Kind, VirtualServerKey, list[str]]]:
    """Say for every virtual server its port, its check, its key, and the addresses behind it."""
    for port, kind, net in ((PORTS[0], TcpCheck(), 0), (PORTS[1], HttpCheck(path="/health"), 128)):
        for number in range(each // A_SERVER):
            addresses = [f"10.1.{net + number // 4}.{number % 4 * A_SERVER + one + 1}" for one in range(A_SERVER)]
            yield port, kind, parse_key(f"tcp/192.168.1.{number + 1}:{port}"), addresses


def _restore(director: Host, each: int) -> None:
    lines = []
    for port, _, key, addresses in _targets(each):
        vip = str(key).removeprefix("tcp/")
        lines.append(f"-A -t {vip} -s rr")
        lines += [f"-a -t {vip} -r {address}:{port} -m -w 1" for address in addresses]
    director.run(
        str(Path(sys.executable).with_name("lvs")),
        "--insecure",
        "restore",
        input="\n".join(lines),
        timeout=120,
    )


async def _set_policies(agent: Agent, each: int) -> None:
    site = AgentSite(directors=(Endpoint(path=str(agent.socket)),), rs_agents={})
    async with Clients(site, lambda call: None) as clients:
        client = clients[site.director_names()[0]]
        for _, kind, key, _ in _targets(each):
            policy = HealthPolicy(
                check=Check(kind=kind, interval=INTERVAL), start=Start.UP, floor=Floor(destinations=0)
            )
            request = health_pb2.SetHealthRequest(virtual_server=wire.pack_key(key), policy=pack_policy(policy))
            await client.ask(client.health.SetHealth, request)


def _their_servers(each: int) -> list[keepalived.VirtualServer]:
    found = []
    for port, kind, key, addresses in _targets(each):
        settings: keepalived.Settings = {"connect_timeout": 2}
        if isinstance(kind, HttpCheck):
            settings = {"url": {"path": kind.path, "status_code": 200}, **settings}
        check = keepalived.Check(kind="HTTP_GET" if isinstance(kind, HttpCheck) else "TCP_CHECK", settings=settings)
        vip = str(key).removeprefix("tcp/").partition(":")[0]
        reals = tuple(keepalived.RealServer(address=address, port=port, check=check) for address in addresses)
        usual: keepalived.Settings = {"delay_loop": INTERVAL, "lvs_method": "NAT"}
        found.append(keepalived.VirtualServer(address=vip, port=port, real_servers=reals, settings=usual))
    return found


def _reactions(site: Site, agent: Agent) -> Iterator[float]:
    """Yield the seconds from the end of the check that failed until the kernel has weight 0."""
    director, rs = site.directors[0], site.real_servers[0]
    vip = f"{VIP}:80"
    web = nginx.start(rs, port=80, paths={"/health": nginx.Answer(body="well")})
    lvs = (str(Path(sys.executable).with_name("lvs")), "--insecure")
    director.run(*lvs, "service", "add", f"tcp/{vip}")
    director.run(*lvs, "destination", "add", f"tcp/{vip}", rs.ipv4, "--forward", "nat")
    often = (
        "--interval",
        "0.1",
        "--check-timeout",
        "0.1",
        "--rise",
        "1",
        "--fall",
        "1",
        "--damping-hold",
        "0",
        "--floor",
        "0",
    )
    director.run(*lvs, "health", "set", f"tcp/{vip}", "--check", "http", "--path", "/health", *often)
    for _ in range(ROUNDS):
        nginx.change(web, {"/health": nginx.Answer(body="ill", status=503)})
        seen = _until_weight(director, 0)
        shown = json.loads(director.out(*lvs, "--output", "json", "health", "show", f"tcp/{vip}"))
        yield seen - _failed_at(shown)
        nginx.change(web, {"/health": nginx.Answer(body="well")})
        _until_weight(director, 1)
    web.stop()
    director.run(*lvs, "health", "remove", f"tcp/{vip}")
    director.run(*lvs, "service", "remove", f"tcp/{vip}", "--force")


def _until_weight(director: Host, weight: int) -> float:
    """Return when the kernel has a weight, by the wall clock."""
    wanted = re.compile(rf"-> [0-9A-F:]+ +\w+ +{weight} ")

    def look() -> float:
        table = Path("/proc/thread-self/net/ip_vs")
        end = time.monotonic() + 10
        while not wanted.search(table.read_text()):
            if time.monotonic() > end:
                raise SystemExit(f"the kernel has not got weight {weight} within 10 s")
            time.sleep(0.001)
        return time.time()

    return director.inside(look)


def _failed_at(shown: Any) -> float:
    text = shown["agents"][0]["answer"][0]["destinations"][0]["health"]["since"]
    return datetime.datetime.fromisoformat(text).timestamp()


def _share(pids: set[int], seconds: float) -> float:
    """Return the share of the processor that processes take, once they have warmed up."""
    time.sleep(WARM_UP)
    before, begun = _ticks(pids), time.monotonic()
    time.sleep(seconds)
    return (_ticks(pids) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)


def _ticks(pids: set[int]) -> int:
    return sum(int(each) for pid in pids for each in _stat(pid)[11:13])


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the program's name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _group(leader: int) -> set[int]:
    """Return the processes of a group."""
    pids = {int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()}
    return {pid for pid in pids if int(_stat(pid)[2]) == leader}


def _spread(found: list[float]) -> str:
    return f"median {statistics.median(found) * 1000:.1f} ms, most {found[-1] * 1000:.1f} ms of {len(found)}"


if __name__ == "__main__":
    sys.exit(main())
