"""keepalived on a second director beside ours, for the same real servers: ours is no slower to take out and put back.

Both check by HTTP twice a second, and take out with the second failure, half a second after the first. How long a
fault waits for its first check is chance, and the same chance for both, up to an interval: what is compared is the
time from that check on, as tcpdump saw it leave.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from lab.host import Host
from lab.servers import keepalived, nginx
from lab.site import VIP, Site
from tests.lab.conftest import UsualSite
from tests.lab.health_site import FALL, INTERVAL, KEY, TIMEOUT, HealthSite, Record, moment, serve, unplug, weights
from tests.lab.operator import PORT, Operator

ONE_EACH = True
ROUNDS = 3
SLOWER = 0.15
"""Seconds by which the median of so few rounds may differ by chance, in a guest that stands still now and then."""

ADDRESSES = {"192.168.0.104": "rs1", "192.168.0.105": "rs2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Ours checks for the first director, keepalived for the second."""

    health: HealthSite
    theirs: Host

    def tables(self) -> tuple[dict[str, int], dict[str, int]]:
        return weights(self.health.director, ADDRESSES), weights(self.theirs, ADDRESSES)

    @contextmanager
    def checks_of(self, host: str) -> Iterator[tuple[Callable[[], list[float]], Callable[[], list[float]]]]:
        """When either's checks of a real server began so far, by the wall clock: our director's, and the other's."""
        address = self.health.operator.site.host(host).ipv4
        with syns(self.health.director, address) as ours, syns(self.theirs, address) as theirs:
            yield ours, theirs


@pytest.fixture(scope="module")
def pair(usual_site: UsualSite) -> Iterator[Pair]:
    usual_site.end()
    with Site.make(real_servers=2, directors=2) as site:
        ours, theirs = site.directors
        hosts = [(ours, "director"), *((host, "realserver") for host in site.real_servers)]
        with ThreadPoolExecutor(len(hosts)) as pool:
            agents = list(pool.map(lambda each: site.start_agent(each[0], each[1], "--insecure"), hosts))
        operator = Operator(site=site, agents={host.name: each for (host, _), each in zip(hosts, agents, strict=True)})
        servers = {host.name: nginx.start(host, port=PORT, paths=serve(host)) for host in site.real_servers}
        options = [word for host in site.real_servers for word in ("--rs", host.ipv4)]
        operator.lvs("add-backend", "--vip", f"{VIP}:{PORT}", "--scheduler", "rr", "--vip-mode", "external", *options)
        health = HealthSite(operator=operator, servers=servers)
        health.check("--check", "http", "--path", "/health", "--damping-hold", "0", "--rise", "1", "--floor", "0")
        check = keepalived.Check(
            kind="HTTP_GET",
            settings={
                "url": {"path": "/health", "status_code": 200},
                "connect_timeout": TIMEOUT,
                "retry": 1,
                "delay_before_retry": INTERVAL,
            },
        )
        reals = tuple(keepalived.RealServer(address=host.ipv4, port=PORT, check=check) for host in site.real_servers)
        keepalived.start(
            theirs,
            keepalived.VirtualServer(
                address=VIP, port=PORT, real_servers=reals, settings={"delay_loop": INTERVAL, "lvs_sched": "rr"}
            ),
        )
        pair = Pair(health=health, theirs=theirs)
        moment(lambda: all(set(table) == set(ADDRESSES.values()) for table in pair.tables()), 15)
        with pair.checks_of("rs2") as checks:
            moment(lambda: all(each() for each in checks), 15)
        yield pair


def die(health: HealthSite) -> Callable[[], object]:
    health.servers["rs2"].kill()
    return health.servers["rs2"].start


def hang(health: HealthSite) -> Callable[[], object]:
    health.servers["rs2"].pause()
    return health.servers["rs2"].resume


def lose_host(health: HealthSite) -> Callable[[], object]:
    host = health.operator.site.host("rs2")
    unplug(host)
    return lambda: unplug(host, back=True)


def fall_ill(health: HealthSite) -> Callable[[], object]:
    host, server = health.operator.site.host("rs2"), health.servers["rs2"]
    nginx.change(server, serve(host, status=503))
    return lambda: nginx.change(server, serve(host))


@pytest.mark.parametrize("fault", [die, hang, lose_host, fall_ill], ids=lambda fault: fault.__name__)
def test_the_same_failure_is_found_and_its_end_too(
    pair: Pair,
    fault: Callable[[HealthSite], Callable[[], object]],
    record_property: Record,
) -> None:
    waits: list[tuple[float, float]] = []
    outs: list[tuple[float, float]] = []
    backs: list[tuple[float, float]] = []
    needed: list[int] = []
    with pair.checks_of("rs2") as checks:
        for number in range(ROUNDS):
            time.sleep(INTERVAL + INTERVAL * number / ROUNDS)  # at every phase of both
            mend = fault(pair.health)
            begun = time.time()
            out = both(pair, lambda table: not table.get("rs2"), "takes it out")
            time.sleep(INTERVAL)
            made = [[check for check in each() if check < seen] for each, seen in zip(checks, out, strict=True)]
            mend()
            mended = time.time()
            back = both(pair, lambda table: bool(table.get("rs2")), "puts it back")
            waits.append(since(begun, out))
            outs.append((out[0] - made[0][-FALL], out[1] - made[1][-FALL]))
            backs.append(since(mended, back))
            needed.append(sum(check > begun for check in made[0]))
    medians = {
        name: tuple(statistics.median(each) for each in zip(*found, strict=True))
        for name, found in (("out", waits), ("out since its first failing check", outs), ("back", backs))
    }
    for name, (ours, theirs) in medians.items():
        said = f"{fault.__name__}, {name}: ours {ours:.2f} s, keepalived {theirs:.2f} s (medians of {ROUNDS})"
        record_property("counted", said)
        if name != "out":
            assert ours <= theirs + SLOWER, said
    assert statistics.median(needed) <= FALL, needed


def since(begun: float, moments: tuple[float, float]) -> tuple[float, float]:
    return moments[0] - begun, moments[1] - begun


def both(pair: Pair, is_so: Callable[[dict[str, int]], bool], what: str) -> tuple[float, float]:
    """Return when each of the two had done it, by the wall clock: ours, and the other."""
    begun = time.time()
    seen: list[float | None] = [None, None]
    while None in seen:
        tables = pair.tables()
        now = time.time()  # after the check that made them so
        assert now < begun + 15, f"nobody {what}: {seen}"
        for number, table in enumerate(tables):
            if seen[number] is None and is_so(table):
                seen[number] = now
        time.sleep(0.005)
    ours, theirs = seen
    assert ours is not None
    assert theirs is not None
    return ours, theirs


@contextmanager
def syns(host: Host, address: str) -> Iterator[Callable[[], list[float]]]:
    """Watch the connections that a host opens to another; what is given tells when each began, by the wall clock.

    Its own only: the switch sends everybody's to everybody once it has lost the other host.
    """
    way = f"src host {host.ipv4} and dst host {address} and dst port {PORT}"
    beginning = f"{way} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"
    with tempfile.TemporaryFile("w+") as said:
        argv = ("tcpdump", "--immediate-mode", "-lnttq", "-i", host.device, beginning)
        process = host.popen(*argv, stdout=said)
        try:
            moment(lambda: "listening on" in os.pread(said.fileno(), 1000, 0).decode(), 10)
            yield lambda: [
                float(line.split()[0])
                for line in os.pread(said.fileno(), 100_000, 0).decode().splitlines()
                if " IP " in line
            ]
        finally:
            process.kill()
            process.wait()


def test_both_tables_are_alike_in_the_end(pair: Pair) -> None:
    ours, theirs = pair.tables()
    assert set(ours) == set(theirs) == set(ADDRESSES.values())
    assert KEY in pair.health.operator.lvs("health", "show").stdout
