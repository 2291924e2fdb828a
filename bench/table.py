"""A whole table through lvs and through ipvsadm, in the same guest: how long each takes, as ratios.

    python -m bench.table [VIRTUAL_SERVERS DESTINATIONS]

Run by `make bench` with 500 virtual servers of 20 destinations each. Everything is counted that an operator waits for:
the start of the program, the reading of the rules, gRPC, the journal, the kernel.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.host import Host
from lab.site import Site

RUNS = 3
LIMITS = {"lvs restore": 0.6, "the agent's part": 0.3, "lvs restore --replace, nothing to do": 0.3}


def main() -> int:
    """Restore and clear by turns; print the best of some runs, and how they compare."""
    servers, destinations = (int(each) for each in sys.argv[1:3] or (500, 20))
    with Site.make(real_servers=1) as site:
        director = site.director
        site.start_agent(director, "director")
        rules = Path("/run/rules")
        rules.write_text("".join(f"{line}\n" for line in write(servers, destinations)))
        times: dict[str, list[float]] = {}
        for _ in range(RUNS):
            for name, seconds in measure(director, rules):
                times.setdefault(name, []).append(seconds)
    best = {name: min(each) for name, each in times.items()}
    base = best["ipvsadm -R"]
    worse = 0
    print(f"{servers} virtual servers x {destinations} destinations, best of {RUNS}:")
    for name, seconds in best.items():
        limit = LIMITS.get(name)
        told = "" if limit is None else f"   (at most {limit:g})"
        worse |= limit is not None and seconds / base > limit
        print(f"{name:40} {seconds:7.2f} s {seconds / base:6.2f} x ipvsadm -R{told}", flush=True)
    return int(worse)


def write(servers: int, destinations: int) -> Iterator[str]:
    """The rules, as ipvsadm-save prints them."""
    for server in range(servers):
        key = f"-t 10.{server // 250}.{server % 250}.1:80"
        yield f"-A {key} -s wlc"
        for each in range(destinations):
            yield f"-a {key} -r 10.{100 + each // 250}.{each % 250}.{server % 250 + 1}:80 -g -w 1"


def measure(director: Host, rules: Path) -> Iterator[tuple[str, float]]:
    """Restore with each, from an empty table."""
    yield "ipvsadm -R", timed(lambda: director.run("ipvsadm", "-R", input=rules.read_text(), timeout=300))
    director.run("ipvsadm", "-C")
    yield from lvs(director, rules, "lvs restore", "the agent's part")
    yield from lvs(director, rules, "lvs restore --replace, nothing to do", "", "--replace")
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


def timed(work: Callable[[], object]) -> float:
    """How long something takes, in seconds."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
