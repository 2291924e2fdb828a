"""What a host looks like, by the kernel's tools and the file system."""

from __future__ import annotations

from dataclasses import dataclass

from lab.debian_host import DebianHost
from tests.deploy.site import VIP

KERNEL = """
    ipvsadm -Sn
    ip -o -4 address | sed 's/ *valid_lft.*//'
    ip -o -6 address show scope global | sed 's/ *valid_lft.*//'
    ip route show table all type local
    grep -H . /proc/sys/net/ipv4/conf/*/arp_ignore /proc/sys/net/ipv4/conf/*/arp_announce
"""

WATCH = """
    ip -ts -oneline -4 monitor address dev eth0 >/root/monitored &
    networkctl reconfigure eth0
    sleep 5
    kill $!
    cat /root/monitored
"""


def kernel(host: DebianHost) -> set[str]:
    """Virtual servers, addresses, local routes and ARP sysctls, each a line."""
    return {f"{host.name}: {line.rstrip()}" for line in host.bash(KERNEL).stdout.splitlines()}


def difference(before: set[str], now: set[str]) -> list[str]:
    """The lines that came, with +, and those that went, with -."""
    return sorted([*(f"+ {line}" for line in now - before), *(f"- {line}" for line in before - now)])


def files(host: DebianHost) -> set[str]:
    """Every file and folder on the host's disk, except people's own, and those that come and go with the hour."""
    volatile = ("/home/", "/var/log/", "/var/lib/systemd/", "/tmp/", "/var/tmp/", "/root/")
    return {path for path in host.bash("find / -xdev").stdout.splitlines() if not path.startswith(volatile)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconfigured:
    """What became of the VIP when networkd configured its interface anew."""

    lines: list[str]

    @classmethod
    def watched(cls, host: DebianHost) -> Reconfigured:
        """Run `networkctl reconfigure`, and hear for five seconds what the kernel says of the VIP."""
        lines = host.bash(WATCH).stdout.splitlines()
        return cls(lines=[line for line in lines if f" {VIP}/" in line])

    @property
    def was_removed(self) -> bool:
        """Whether it was gone."""
        return any("Deleted" in line for line in self.lines)

    @property
    def gap(self) -> float:
        """For how many seconds: from the first removal to the last time that it came."""
        gone = next(_seconds(line) for line in self.lines if "Deleted" in line)
        there = [_seconds(line) for line in self.lines if "Deleted" not in line]
        return there[-1] - gone if there else float("inf")


def _seconds(line: str) -> float:
    """The time of a line that begins with [2026-11-28T16:09:30.123456]."""
    hours, minutes, seconds = line[1:].partition("]")[0].partition("T")[2].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
