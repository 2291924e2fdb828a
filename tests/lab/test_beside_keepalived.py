"""keepalived on a second director beside ours, for the same real servers: ours is no slower to take out and put back.

Both check by HTTP twice a second, and take out with the second failure, half a second after the first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from lab.host import Host
from lab.servers import keepalived, nginx
from lab.site import VIP, Site
from tests.lab.conftest import UsualSite
from tests.lab.health_site import INTERVAL, KEY, TIMEOUT, HealthSite, Record, serve, unplug, weights
from tests.lab.operator import PORT, Operator

ONE_EACH = True
ROUNDS = 3
SLOWER = 0.15
"""Seconds by which the median of so few rounds may differ by chance."""

ADDRESSES = {"192.168.0.104": "rs1", "192.168.0.105": "rs2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Ours checks for the first director, keepalived for the second."""

    health: HealthSite
    theirs: Host

    def tables(self) -> tuple[dict[str, int], dict[str, int]]:
        return weights(self.health.director, ADDRESSES), weights(self.theirs, ADDRESSES)


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
        yield Pair(health=health, theirs=theirs)


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
    out: list[tuple[float, float]] = []
    back: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        time.sleep(INTERVAL * number / ROUNDS)  # at every phase of both
        mend = fault(pair.health)
        out.append(both(pair, lambda table: not table.get("rs2"), "takes it out"))
        time.sleep(INTERVAL)
        mend()
        back.append(both(pair, lambda table: bool(table.get("rs2")), "puts it back"))
        time.sleep(INTERVAL)
    for name, found in (("out", out), ("back", back)):
        ours, theirs = (statistics.median(each) for each in zip(*found, strict=True))
        record_property(
            "counted", f"{fault.__name__}, {name}: ours {ours:.2f} s, keepalived {theirs:.2f} s (medians of {ROUNDS})"
        )
        assert ours <= theirs + SLOWER


def both(pair: Pair, is_so: Callable[[dict[str, int]], bool], what: str) -> tuple[float, float]:
    """Return how long each of the two took."""
    begun = time.monotonic()
    seen: list[float | None] = [None, None]
    while None in seen:
        now = time.monotonic() - begun
        assert now < 15, f"nobody {what}: {seen}"
        for number, table in enumerate(pair.tables()):
            if seen[number] is None and is_so(table):
                seen[number] = now
        time.sleep(0.005)
    ours, theirs = seen
    assert ours is not None
    assert theirs is not None
    return ours, theirs


def test_both_tables_are_alike_in_the_end(pair: Pair) -> None:
    ours, theirs = pair.tables()
    assert set(ours) == set(theirs) == set(ADDRESSES.values())
    assert KEY in pair.health.operator.lvs("health", "show").stdout
