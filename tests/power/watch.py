"""Watches a host through the kernel's own files, and prints each state that it sees: a program of its own.

    python3 -I -S tests/power/watch.py VIP...

A line is `VIP on|off, served by REAL SERVER..., ignore N, announce N` for each VIP (`not served` without a virtual
server); it is printed when it differs from the one before. What it sees at once stood at once: the addresses are read
before and after the rest, and a look at which they differ is thrown away. No program is started for a look, so that
many fit into a second.
"""

from __future__ import annotations

import ipaddress
import re
import sys
import time

PAUSE_SECONDS = 0.015

CONF = "/proc/sys/net/ipv4/conf"


def read(path: str) -> str:
    """What a file says; nothing if it is not there, as /proc/net/ip_vs before the module is loaded."""
    try:
        with open(path) as file:  # noqa: PTH123  # pathlib takes longer to import than all else here
            return file.read()
    except FileNotFoundError:
        return ""


def addresses() -> frozenset[str]:
    """The IPv4 addresses of this host (the routing table "local")."""
    return frozenset(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", read("/proc/net/fib_trie")))


def table() -> dict[str, list[str]]:
    """The real servers with weights by VIP, of virtual servers of TCP."""
    found: dict[str, list[str]] = {}
    vip = ""
    for line in read("/proc/net/ip_vs").splitlines():
        match line.split():
            case ["TCP", where, *_]:
                vip = address_of(where)
                found[vip] = []
            case ["->", where, _, weight, *_] if ":" in where and vip and where[0] != "R":
                found[vip].append(f"{address_of(where)} {weight}")
    return found


def address_of(where: str) -> str:
    """C0A800C8:2710 as an address."""
    return str(ipaddress.IPv4Address(int(where.partition(":")[0], 16)))


def strictest(name: str) -> int:
    """The effective value of an ARP sysctl on eth0."""
    return max(int(read(f"{CONF}/{device}/{name}")) for device in ("all", "eth0"))


def look(vips: list[str]) -> list[str] | None:
    """What is to be seen now; None if it changed meanwhile."""
    before = addresses()
    servers = table()
    silence = f"ignore {strictest('arp_ignore')}, announce {strictest('arp_announce')}"
    if addresses() != before:
        return None
    lines = []
    for vip in vips:
        served = "served by " + ", ".join(servers[vip]) if vip in servers else "not served"
        lines.append(f"{vip} {'on' if vip in before else 'off'}; {served}; {silence}")
    return lines


def main() -> None:
    """Look until it is killed."""
    seen: list[str] = []
    while True:
        lines = look(sys.argv[1:])
        if lines is not None and lines != seen:
            print("\n".join(line for line in lines if line not in seen), flush=True)
            seen = lines
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
