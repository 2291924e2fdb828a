"""A site whose real servers are checked, for the tests of health: nginx on each, and what the kernel has of it."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.host import Host
from lab.servers import nginx
from lab.servers.server import Server
from lab.site import VIP
from tests.lab.operator import PORT, Operator
from tests.lab.stalls import stalled

Record = Callable[[str, object], None]
"""pytest's record_property; what is recorded as "counted" is printed in the end."""

KEY = f"tcp/{VIP}:{PORT}"

INTERVAL, TIMEOUT, RISE, FALL = 0.5, 0.4, 2, 2
BOUND = INTERVAL * FALL + TIMEOUT
"""Seconds from a fault to the end of the check that tells it, at most."""

WRITE = 0.4
"""Seconds for what follows in a busy guest, and for the eye that watches the kernel every few milliseconds."""

CHECK = ("--interval", str(INTERVAL), "--check-timeout", str(TIMEOUT), "--rise", str(RISE), "--fall", str(FALL))


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSite:
    """An operator, and a web server on each real server by its host's name."""

    operator: Operator
    servers: dict[str, Server] = field(default_factory=dict)

    @property
    def director(self) -> Host:
        return self.operator.site.director

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The real servers."""
        return self.operator.site.real_servers

    def check(self, *options: str, status: int = 0) -> str:
        """lvs health set, with the usual times; what it prints."""
        done = self.operator.lvs("health", "set", KEY, *CHECK, *options, status=status)
        return done.stdout + done.stderr

    def weights(self) -> dict[str, int]:
        """The weight of each real server's destination, by its host's name, as the kernel has it."""
        return weights(self.director, {host.ipv4: host.name for host in self.hosts})

    def serving(self) -> set[str]:
        """Who gets connections."""
        return {name for name, weight in self.weights().items() if weight}


def weights(director: Host, names: dict[str, str]) -> dict[str, int]:
    """Read the kernel's own table, by no means of ours."""
    text = director.inside(lambda: Path("/proc/thread-self/net/ip_vs").read_text(encoding="utf-8"))
    found = {}
    for address, weight in re.findall(r"-> ([0-9A-F]{8}):[0-9A-F]{4} +\w+ +(\d+)", text):
        plain = ".".join(str(int(address[number : number + 2], 16)) for number in range(0, 8, 2))
        found[names.get(plain, plain)] = int(weight)
    return found


def serve(host: Host, status: int = 200) -> dict[str, nginx.Answer]:
    """What nginx answers on a real server: its name, and whether it is well."""
    return {"/who": nginx.Answer(body=host.name), "/health": nginx.Answer(status=status, body="well")}


def moment(condition: Callable[[], bool], within: float) -> float:
    """Return when something came true, by the monotonic clock; fails if it has not within so many seconds.

    What the guest stood still meanwhile does not count.
    """
    begun = time.monotonic()
    while True:
        now = time.monotonic()
        if condition():
            return now
        assert now < begun + within + stalled(begun), f"it has not happened within {within:g} s"
        time.sleep(0.005)


def unplug(host: Host, *, back: bool = False) -> None:
    """Pull the cable of a host out of the switch, or plug it in again."""
    subprocess.run(("ip", "link", "set", host.name, "up" if back else "down"), check=True)
