"""How long IPVS keeps connections of which nothing is heard (ipvsadm --set), and the rules for it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, fields

from agent_common.errors import InvalidInputError

MAX_TIMEOUT_SECONDS = 31 * 86400
"""ipvsadm(8) refuses longer ones, and so do we. A kernel that ticks 1000 times a second ends at 2147483 s itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """In seconds, 1 to 2678400: a TCP connection, one that has seen a FIN, and UDP. They are the whole director's.

    None is one that is not meant: whoever sets the timeouts leaves it as it is.
    """

    tcp: int | None = None
    tcp_fin: int | None = None
    udp: int | None = None

    def check(self) -> Timeouts:
        """Raise InvalidInputError for one that is out of range; return the timeouts."""
        for name, seconds in self.meant().items():
            if not 1 <= seconds <= MAX_TIMEOUT_SECONDS:
                raise InvalidInputError(name, f"{name}: {seconds} s is out of range (1 to {MAX_TIMEOUT_SECONDS} s)")
        return self

    def meant(self) -> dict[str, int]:
        """Return those that are not None, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def over(self, others: Timeouts) -> Timeouts:
        """Return these, and the others where one is not meant."""
        return Timeouts(**(others.meant() | self.meant()))

    def differences(self, found: Timeouts) -> tuple[str, ...]:
        """Return the names of those that are meant and others in what was found."""
        return tuple(name for name, seconds in self.meant().items() if seconds != getattr(found, name))

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds} s" for name, seconds in self.meant().items())


KERNEL_TIMEOUTS = Timeouts(tcp=900, tcp_fin=120, udp=300)
"""What a kernel begins with (net/netfilter/ipvs/ip_vs_proto_tcp.c and ip_vs_proto_udp.c)."""
