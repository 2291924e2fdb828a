"""Health checks against real servers that fail in every way: found in time, taken out, put back; clients notice little.

The kernel is read in /proc/net/ip_vs, and clients fetch through the VIP all the while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.servers import nginx
from lab.site import VIP, Site
from tests.lab.clients import fetching
from tests.lab.conftest import UsualSite
from tests.lab.health_site import BOUND, FALL, INTERVAL, KEY, RISE, WRITE, HealthSite, moment, serve, unplug
from tests.lab.operator import PORT, Operator

ALL = {"rs1", "rs2", "rs3"}


@pytest.fixture(scope="module")
def health(usual_site: UsualSite) -> Iterator[HealthSite]:
    """Three real servers with nginx behind the VIP, none checked yet."""
    usual_site.end()
    with Site.make(real_servers=3) as site:
        hosts = [(site.director, "director"), *((host, "realserver") for host in site.real_servers)]
        with ThreadPoolExecutor(len(hosts)) as pool:
            agents = list(pool.map(lambda each: site.start_agent(each[0], each[1], "--insecure"), hosts))
        operator = Operator(site=site, agents={host.name: each for (host, _), each in zip(hosts, agents, strict=True)})
        servers = {host.name: nginx.start(host, port=PORT, paths=serve(host)) for host in site.real_servers}
        options = [word for host in site.real_servers for word in ("--rs", host.ipv4)]
        operator.lvs("add-backend", "--vip", f"{VIP}:{PORT}", "--scheduler", "rr", *options)
        yield HealthSite(operator=operator, servers=servers)


def die(health: HealthSite, name: str) -> Callable[[], None]:
    health.servers[name].kill()
    return health.servers[name].start


def hang(health: HealthSite, name: str) -> Callable[[], None]:
    health.servers[name].pause()
    return health.servers[name].resume


def lose_host(health: HealthSite, name: str) -> Callable[[], None]:
    host = health.operator.site.host(name)
    unplug(host)
    return lambda: unplug(host, back=True)


def fall_ill(health: HealthSite, name: str) -> Callable[[], None]:
    host = health.operator.site.host(name)
    nginx.change(health.servers[name], serve(host, status=503))
    return lambda: nginx.change(health.servers[name], serve(host))


FAULTS: dict[str, tuple[Callable[[HealthSite, str], Callable[[], None]], str]] = {
    "its process is killed": (die, "connection refused"),
    "its process stands still": (hang, "no answer"),
    "its host is gone": (lose_host, ""),
    "it says that it is ill": (fall_ill, "503"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_time_and_clients_notice_it_no_longer(health: HealthSite, fault: str) -> None:
    """Out within interval x fall + timeout of the fault, in again within interval x rise + timeout of its end."""
    make, why = FAULTS[fault]
    health.set("--check", "http", "--path", "/health", "--damping-hold", "0")
    moment(lambda: health.serving() == ALL, 5)
    with fetching(health.operator.site.client, VIP, PORT) as clients:
        time.sleep(1)
        begun = time.monotonic()
        mend = make(health, "rs2")
        made = time.monotonic()
        out = moment(lambda: health.weights()["rs2"] == 0, 10)
        assert health.serving() == ALL - {"rs2"}
        (shown,) = [
            line
            for line in health.operator.lvs("health", "show", KEY).stdout.splitlines()
            if "104" in line or "105" in line
        ][1:]
        assert "down" in shown
        assert why in shown
        time.sleep(1.5)
        mend()
        mended = time.monotonic()
        back = moment(lambda: health.weights()["rs2"] > 0, 10)
        time.sleep(1)
    assert out - made <= BOUND + WRITE
    assert (
        back - mended <= INTERVAL * RISE + BOUND - INTERVAL * FALL + WRITE + 1.1
    )  # the host itself must be found again
    assert clients.outside(begun, begun + BOUND + 1 + (made - begun)) == []
    assert set(clients.answers) == ALL
    print(
        f"counted: health: {fault}: out {out - made:.2f} s, back {back - mended:.2f} s, {len(clients.failures)} failed of {clients.answers.total()}"
    )
