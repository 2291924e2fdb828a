"""The interactive lab: a site with two real servers, web servers and agents, and a shell around it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time

from lab import agents
from lab.site import VIP, VIP6, Site, StartError

WEB_PORT = 10000


def start_agents(site: Site) -> str | None:
    """Start an agent on every director and real server; why not, if they do not start."""
    if not (agents.SCRIPTS / "lvs-director").exists():
        return "there are no agents: lvs-director is not installed in .venv"
    try:
        site.start_agent(site.director, "director")
        for host in site.real_servers:
            site.start_agent(host, "realserver")
    except StartError as error:  # the site is of use without them, and the place to find out why
        return str(error)
    return None


def hints(site: Site, without_agents: str | None) -> str:
    """The map of the site, and what to try; `without_agents` says why there are none."""
    rows = "\n".join(f"  {host.name:<8} {host.ipv4:<16} {host.ipv6}" for host in site.hosts)
    real_servers = " ".join(f"--rs {host.ipv4}" for host in site.real_servers)
    add = f"on lb1 lvs --insecure add-backend --vip {VIP}:{WEB_PORT} {real_servers}"
    change = f"  {add}\n" if without_agents is None else ""
    note = "" if without_agents is None else f"\n{without_agents}\n"
    return (
        f"\n{rows}\n\nVIPs {VIP} and {VIP6} are free; the real servers answer on port {WEB_PORT}.\n{note}\n"
        f"  on HOST COMMAND...        run a command on a host, as: on rs1 ip addr\n{change}"
        f"  on client curl -s http://{VIP}:{WEB_PORT}/\n  on lb1 ipvsadm -Ln\n"
        f"  exit                      ends the lab; nothing of it is kept\n"
    )


def shell_setup(site: Site) -> str:
    """What bash reads first: `on`, its completion, and a prompt."""
    cases = "".join(
        f'        {host.name}) {shlex.join(host.enter_command())} --wdns="$PWD" -- "$@" ;;\n' for host in site.hosts
    )
    names = " ".join(host.name for host in site.hosts)
    return (
        f"on() {{\n    local host=$1; shift\n    case $host in\n{cases}"
        f'        *) echo "cannot run on $host: the hosts are {names}" >&2; return 2 ;;\n    esac\n}}\n'
        f'complete -W "{names}" on\nPS1="lab:\\w# "\nHISTFILE=\n'
    )


def main() -> int:
    started = time.monotonic()
    with Site.make(real_servers=2) as site:
        for host in site.real_servers:
            site.serve_http(host, WEB_PORT, "::")
        note = start_agents(site)
        with tempfile.NamedTemporaryFile("w", prefix="lab-", suffix=".bash") as setup:
            setup.write(shell_setup(site))
            setup.flush()
            print(hints(site, note))
            print(f"ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
            bash = ["bash", "--noprofile", "--rcfile", setup.name, "-i"]
            return subprocess.run(bash, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
