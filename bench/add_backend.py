"""What one add-backend costs, measured in the lab's guest: round trips, time, and where the time goes.

Run by `make bench`. The guest's system calls are slow; compare lines with each other, not with other machines.
"""

from __future__ import annotations

import re
import sys
import time

from lab.host import Host
from lab.site import VIP, Site

PORT = 10000
MOST_ROUND_TRIPS = 12


def main() -> int:
    """Add two backends and remove them; print what --debug says of each command."""
    worst = 0
    with Site.make(real_servers=2) as site:
        for rs in site.real_servers:
            site.serve_http(rs, PORT)
            site.start_agent(rs, "realserver")
        site.start_agent(site.director, "director")
        first, second = (rs.ipv4 for rs in site.real_servers)
        vip = ("--vip", f"{VIP}:{PORT}")
        worst = max(worst, measure(site.director, "everything new", "add-backend", *vip, "--rs", first))
        worst = max(worst, measure(site.director, "one more", "add-backend", *vip, "--rs", second))
        measure(site.director, "in place", "add-backend", *vip, "--rs", second)
        measure(site.director, "remove one", "remove-backend", *vip, "--rs", second)
        measure(site.director, "remove the last", "remove-backend", *vip, "--rs", first, "--prune")
        measure(site.director, "status", "status")
    return 0 if worst <= MOST_ROUND_TRIPS else 1


def measure(host: Host, name: str, *argv: str) -> int:
    """Run a command with --debug and print a line about it; return its round trips."""
    begun = time.monotonic()
    done = host.run("lvs", "--insecure", "--debug", *argv, timeout=120)
    seconds = time.monotonic() - begun
    calls = [float(found) for found in re.findall(r"^debug\s+([0-9.]+) ms", done.stderr, re.MULTILINE)]
    trips = int(re.findall(r"(\d+) round trips", done.stderr)[0])
    print(
        f"{name:16} {trips:3} round trips, {sum(calls):7.0f} ms in them (longest {max(calls):5.0f} ms), "
        f"whole command {seconds:5.2f} s",
        flush=True,
    )
    return trips


if __name__ == "__main__":
    sys.exit(main())
