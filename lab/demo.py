"""The demo: lvs add-backend builds a site on a real kernel, then a change fails and leaves no trace.

Runs inside the guest. Ends with status 1 if something is not as it should be.
"""

from __future__ import annotations

import itertools
import shlex
import sys

from lab.host import Host
from lab.site import VIP, Site, diff, snapshot

PORT = 10000
SERVICE = f"{VIP}:{PORT}"
OTHER_VIP = "192.168.0.201"


def main() -> int:
    """Run the demo; return the exit status."""
    with Site.make(real_servers=2) as site:
        say(
            "A site of four hosts, each a network namespace of a real Linux kernel with IPVS:",
            f"  lb1    {site.director.ipv4}    director, runs lvs-director and the lvs command",
            *(f"  {rs.name}    {rs.ipv4}   real server, runs lvs-realserver" for rs in site.real_servers),
            f"  client {site.client.ipv4}    asks for http://{SERVICE}/",
        )
        start(site)
        ok = build(site) and answers(site) and failing_change(site)
    say("", "The demo ended well." if ok else "THE DEMO FAILED, see above.")
    return 0 if ok else 1


def start(site: Site) -> None:
    """Start the agents and a web server on each real server."""
    for rs in site.real_servers:
        site.serve_http(rs, PORT)
        site.start_agent(rs, "realserver")
    site.start_agent(site.director, "director")


def build(site: Site) -> bool:
    """Add both backends."""
    heading("Two commands build the site")
    for number, rs in enumerate(site.real_servers):
        scheduler = ["--scheduler", "rr"] if number == 0 else []
        if run(site.director, "lvs", "--insecure", "add-backend", "--vip", SERVICE, "--rs", rs.ipv4, *scheduler):
            return False
    run(site.director, "ipvsadm", "-Ln")
    run(site.real_servers[0], "ip", "-o", "-4", "address", "show", "dev", "lo")
    return True


def answers(site: Site) -> bool:
    """Ask six times through the VIP, and who answers ARP for it."""
    heading("The client asks the VIP")
    names = []
    for _ in range(6):
        names.append(site.client.out("curl", "--silent", "--max-time", "5", f"http://{SERVICE}/"))
        say(f"client$ curl http://{SERVICE}/   ->   {names[-1]}")
    expected = {rs.name for rs in site.real_servers}
    alternate = all(first != second for first, second in itertools.pairwise(names))
    if set(names) != expected or not alternate:
        say(f"cannot be: the answers should alternate between {', '.join(sorted(expected))}")
        return False
    return True


def failing_change(site: Site) -> bool:
    """Try to add backends of which one has no application, and compare every host before and after."""
    heading("A change that fails: a second VIP, and nothing listens on port 10001 of rs2")
    site.serve_http(site.real_servers[0], PORT + 1)
    before = {host.name: snapshot(host) for host in site.hosts}
    command = ["lvs", "--insecure", "add-backend", "--vip", f"{OTHER_VIP}:{PORT + 1}", "--ready-timeout", "2"]
    status = run(site.director, *command, *(word for rs in site.real_servers for word in ("--rs", rs.ipv4)))
    say(f"exit status {status} (10: failed, and rolled back completely)", "")
    same = status == 10
    for host in site.hosts:
        difference = diff(before[host.name], snapshot(host))
        texts = len(before[host.name])
        say(f"{host.name:7} before and after: " + (difference or f"equal ({texts} texts: ip, /proc/sys, ipvsadm)"))
        same = same and not difference
    return same


def run(host: Host, *argv: str) -> int:
    """Show a command and its output as the operator sees it; return its status."""
    say("", f"{host.name}# {shlex.join(argv)}")
    done = host.run(*argv, check=False, timeout=60)
    say((done.stderr + done.stdout).rstrip())
    return done.returncode


def heading(text: str) -> None:
    """Begin a part of the demo."""
    say("", f"=== {text} ===")


def say(*lines: str) -> None:
    """Print lines at once."""
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
