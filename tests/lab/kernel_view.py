"""What the kernels of a site say of the real servers behind its virtual server, by ipvsadm and ip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lab.host import Host
from lab.site import VIP, VIP6
from tests.lab.operator import address_of


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelView:
    """Some directors and real servers of a site, in one family."""

    directors: Sequence[Host]
    real_servers: Sequence[Host]
    family: int

    def served(self, director: Host) -> set[str]:
        """The real servers' addresses in a director's table, by ipvsadm."""
        rules = director.out("ipvsadm", "-Sn")
        return set(re.findall(r"-r \[?([0-9a-f.:]+?)\]?:\d+ ", rules))

    def has_vip(self, host: Host) -> bool:
        vip = VIP if self.family == 4 else VIP6
        return f" {vip}/" in host.out("ip", "-o", "addr", "show", "dev", "lo")

    def assert_safe(self) -> None:
        """P1: whoever gets clients has the VIP."""
        for director in self.directors:
            for host in self.real_servers:
                if address_of(host, self.family) in self.served(director):
                    assert self.has_vip(host), f"{director.name} sends clients to {host.name}, which has no VIP"

    def is_everywhere(self) -> bool:
        wanted = {address_of(host, self.family) for host in self.real_servers}
        return all(self.served(each) == wanted for each in self.directors) and all(map(self.has_vip, self.real_servers))

    def is_nowhere(self) -> bool:
        return not any(map(self.served, self.directors)) and not any(map(self.has_vip, self.real_servers))
