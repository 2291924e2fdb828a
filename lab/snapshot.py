"""What an operator sees on a host, as text that can be compared: addresses, routes, ARP settings, IPVS."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.host import CommandError, Host

COMMANDS = (
    "ip -o addr",
    "ip -o link",
    "ip route show table all",
    "ip -6 route show table all",
    "ipvsadm -Sn",
)

SYSCTLS = ("arp_ignore", "arp_announce", "rp_filter", "send_redirects", "forwarding")

CONF = Path("/proc/sys/net/ipv4/conf")


def snapshot(host: Host) -> dict[str, str]:
    """The output of each command that an operator would compare, keyed by the command line.

    Nothing is stripped: on a host that nobody changes, two snapshots are equal.
    """
    return host.inside(lambda: _commands(host) | _sysctls())


def diff(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """How two snapshots differ, as unified diffs headed by the command line; empty when they are equal."""
    parts: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        old, new = (side.get(key, "").splitlines() for side in (before, after))
        parts += difflib.unified_diff(old, new, f"{key}  (before)", f"{key}  (after)", lineterm="", n=0)
    return "\n".join(parts)


def _commands(host: Host) -> dict[str, str]:
    # Started together: their start is most of the time, and they do not depend on one another.
    running = {
        line: subprocess.Popen(line.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in COMMANDS
    }
    texts = {}
    for line, process in running.items():
        stdout, stderr = process.communicate(timeout=30)
        if process.returncode != 0:
            done = subprocess.CompletedProcess(line.split(), process.returncode, stdout, stderr)
            raise CommandError(host.name, done)
        texts[line] = stdout
    return texts


def _sysctls() -> dict[str, str]:
    devices = sorted(path.name for path in CONF.iterdir())
    return {
        f"grep . {CONF}/*/{name}": "".join(f"{CONF}/{d}/{name}:{(CONF / d / name).read_text()}" for d in devices)
        for name in SYSCTLS
    }
