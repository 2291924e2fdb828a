"""What a host looks like, by the kernel's tools and the file system."""

from __future__ import annotations

from lab.debian_host import DebianHost

KERNEL = """
    ipvsadm -Sn
    ip -o -4 address | sed 's/ *valid_lft.*//'
    ip -o -6 address show scope global | sed 's/ *valid_lft.*//'
    ip route show table all type local
    grep -H . /proc/sys/net/ipv4/conf/*/arp_ignore /proc/sys/net/ipv4/conf/*/arp_announce
"""


def kernel(host: DebianHost) -> str:
    """Virtual servers, addresses, local routes and ARP sysctls."""
    return host.bash(KERNEL).stdout


def files(host: DebianHost) -> set[str]:
    """Every file and folder on the host's disk."""
    return set(host.bash("find / -xdev").stdout.splitlines())
