"""How long IPVS keeps connections of which nothing is heard (ipvsadm --set), and the rules for it. No I/O."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from agent_common.errors import InvalidInputError

MAX_TIMEOUT_SECONDS = 31 * 86400
"""ipvsadm(8) refuses longer ones, and so do we. A kernel that ticks 1000 times a second ends at 2147483 s itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """In seconds, 1 to 2678400: a TCP connection, one that has seen a FIN, and UDP. They are the whole director's."""

    tcp: int
    tcp_fin: int
    udp: int

    def check(self) -> Timeouts:
        """Raise InvalidInputError for one that is out of range; return the timeouts."""
        for name, seconds in dataclasses.asdict(self).items():
            check_timeout(name, seconds)
        return self

    def __str__(self) -> str:
        return f"tcp {self.tcp} s, tcp_fin {self.tcp_fin} s, udp {self.udp} s"


KERNEL_TIMEOUTS = Timeouts(tcp=900, tcp_fin=120, udp=300)
"""What a kernel begins with (net/netfilter/ipvs/ip_vs_proto_tcp.c and ip_vs_proto_udp.c)."""


def check_timeout(name: str, seconds: int) -> int:
    """Return the seconds if they are in range; raises InvalidInputError."""
    if not 1 <= seconds <= MAX_TIMEOUT_SECONDS:
        raise InvalidInputError(name, f"{name}: {seconds} s is out of range (1 to {MAX_TIMEOUT_SECONDS} s)")
    return seconds
