"""What checks cost: 5,000 of TCP and 5,000 of HTTP every 5 s on one core, and whether the agent still answers.

    python -m bench.health [SECONDS]

The checker, with a fake kernel behind it, is alone on the first core; listeners and a client of its RPCs are on the
second. Prints the share of the core, how late checks began, and how long RPCs took.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from lvsagent.v1 import ipvs_service_pb2, ipvs_service_pb2_grpc

from agent_common.check import Check, HttpCheck, Kind, TcpCheck
from agent_common.checks import NetworkChecks
from agent_common.destination import Destination, DestinationKey
from agent_common.health import Floor, HealthPolicy, Start
from agent_common.virtual_server import Protocol, ServiceAddress, VirtualServer, parse_address
from agent_director.check_pace import Pace
from tests.hosts import DirectorHost
from tests.serving import served, services

EACH = 5000
A_SERVER = 50
INTERVAL = 5.0
WARM_UP = 2 * INTERVAL
MOST_SHARE, MOST_LATE, MOST_ANSWER = 0.6, 0.25, 0.05
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwell\n"


def listen(ports: list[int]) -> None:
    """Take connections on two ports of every loopback address until killed: the second one speaks HTTP."""
    watched = selectors.DefaultSelector()
    for number, port in enumerate(ports):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))  # on a machine of its own: 127.0.0.0/8 has ten thousand targets
        server.listen(4096)
        server.setblocking(False)
        watched.register(server, selectors.EVENT_READ, number)
    print("ready", flush=True)
    while True:
        for key, _ in watched.select():
            _serve(watched, key)


def _serve(watched: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    taken: socket.socket = key.fileobj  # type: ignore[assignment]
    if key.data == "client":
        watched.unregister(taken)
        with contextlib.suppress(OSError):
            if taken.recv(4096):
                taken.send(ANSWER)
        taken.close()
        return
    for _ in range(64):
        try:
            client, _ = taken.accept()
        except BlockingIOError:
            return
        client.setblocking(False)
        if key.data == 0:
            client.close()
        else:
            watched.register(client, selectors.EVENT_READ, "client")


def site(ports: list[int]) -> DirectorHost:
    """A director of 200 virtual servers with a policy each, as if an operator had made them."""
    host = DirectorHost()
    numbers = iter(range(2 * EACH))
    kinds: tuple[Kind, ...] = (TcpCheck(), HttpCheck(path="/health"))
    for kind, port in zip(kinds, ports, strict=True):
        for _ in range(EACH // A_SERVER):
            _virtual_server(host, kind, [(next(numbers), port) for _ in range(A_SERVER)])
    return host


def _virtual_server(host: DirectorHost, kind: Kind, targets: list[tuple[int, int]]) -> None:
    first, port = targets[0]
    key = ServiceAddress(protocol=Protocol.TCP, address=parse_address(_address(first, "10"), "vip"), port=port)
    server = VirtualServer(key=key, scheduler="wrr")
    host.ipvs.add_virtual_server(server)
    host.virtual_servers.record(server)
    for number, _ in targets:
        destination = Destination(
            key=DestinationKey(address=parse_address(_address(number, "127"), "rs"), port=port), weight=1
        )
        host.ipvs.add_destination(key, destination)
        host.destinations.set_record(key, destination.key, destination, managed=True)
    check = Check(kind=kind, interval=INTERVAL, timeout=2.0)
    host.health.set_policy(key, HealthPolicy(check=check, start=Start.UP, floor=Floor(destinations=0)))


def _address(number: int, net: str) -> str:
    return f"{net}.1.{number // 250}.{number % 250 + 1}"


async def check(ports: list[int], path: Path, seconds: float) -> None:
    """Check for a while, and print what it took."""
    late: list[float] = []
    host = site(ports)
    host.health_watch = host.watch_with(NetworkChecks(), Pace(begun=late.append))
    async with served(path, services(host)):
        following = asyncio.ensure_future(host.health_watch.follow())
        await asyncio.sleep(WARM_UP)
        late.clear()
        begun, used = time.monotonic(), _cpu()
        await asyncio.sleep(seconds)
        share = (_cpu() - used) / (time.monotonic() - begun)
        counted = list(late)
        down = sum(not each.judge.is_up for server in host.health_watch.servers() for each in server.members.values())
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    counted.sort()
    each = share * seconds / len(counted) * 1e6
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(counted) / seconds:.0f} checks/s, {down} down, {resident:.0f} MiB resident")
    print(f"share of the core {share:.0%} (at most {MOST_SHARE:.0%}), {each:.0f} us a check")
    print(f"late: {_spread(counted)} (p99 at most {MOST_LATE * 1000:.0f} ms)")


def _spread(found: list[float]) -> str:
    """Say how seconds are spread; the list is sorted."""
    return f"p50 {_at(found, 50):.1f} ms, p99 {_at(found, 99):.1f} ms, most {found[-1] * 1000:.1f} ms"


def _at(found: list[float], percent: int) -> float:
    return found[len(found) * percent // 100] * 1000


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def ask(path: Path) -> list[float]:
    """Ask the agent for its virtual servers again and again; return how long each answer took."""
    took: list[float] = []
    first = 0.0
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        stub = ipvs_service_pb2_grpc.IpvsServiceStub(channel)
        request = ipvs_service_pb2.ListVirtualServersRequest(page_size=50)
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                begun = time.perf_counter()
                await stub.ListVirtualServers(request, wait_for_ready=not first)
                first = first or begun
                if begun > first + WARM_UP:
                    took.append(time.perf_counter() - begun)
                await asyncio.sleep(0.05)
    return took


def main() -> None:
    """Start the listeners and the checker, and ask it meanwhile."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    ports = [_free_port(), _free_port()]
    with tempfile.TemporaryDirectory() as folder, _started("listen", ports, 1) as listeners:
        assert listeners.stdout is not None  # noqa: S101
        listeners.stdout.readline()
        path = Path(folder) / "api.sock"
        with _started("check", [*ports, str(path), str(seconds)], 0) as checker:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            took = sorted(asyncio.run(ask(path)))
            print(checker.communicate()[0].strip())
        listeners.kill()
    print(f"{len(took)} RPCs meanwhile: {_spread(took)} (at most {MOST_ANSWER * 1000:.0f} ms)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _started(what: str, arguments: Sequence[object], core: int) -> subprocess.Popen[str]:
    cores = sorted(os.sched_getaffinity(0))
    return subprocess.Popen(
        [sys.executable, "-m", "bench.health", what, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {cores[core % len(cores)]}),  # noqa: PLW1509  # nothing is threaded yet
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["listen", *numbers]:
            listen([int(each) for each in numbers])
        case ["check", first, second, where, how_long]:
            asyncio.run(check([int(first), int(second)], Path(where), float(how_long)))
        case _:
            main()
