"""The real server's ends of tunnels: what a VIP needs there besides its address. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent_common.destination import Destination, Forwarding, TunnelType
from agent_common.errors import InvalidInputError
from agent_common.virtual_server import Family, check_port, family_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelEnd:
    """Where packets of one kind of tunnel are unwrapped.

    outer is the family of the real server's own address, to which they are sent; the port is GUE's. ready is what the
    kernel says: device up, source check passable, port open.
    """

    type: TunnelType
    outer: Family
    port: int = 0
    ready: bool = False

    def __str__(self) -> str:
        """Write it as records keep it: ipip/4, gue/6/6080."""
        parts = [self.type.name.lower(), "4" if self.outer is Family.IPV4 else "6"]
        return "/".join([*parts, str(self.port)] if self.port else parts)

    def check(self, field: str) -> TunnelEnd:
        """Raise InvalidInputError unless the port belongs to the kind."""
        if self.type is TunnelType.GUE:
            check_port(self.port, f"{field}.port", zero=False)
        elif self.port:
            raise InvalidInputError(f"{field}.port", f"{field}.port: {self.type.name.lower()} takes no port")
        return self


def ends_for(destination: Destination) -> tuple[TunnelEnd, ...]:
    """Return what a destination needs on its real server: nothing unless it is tunnelled."""
    if destination.forwarding is not Forwarding.TUNNELING:
        return ()
    tunnel = destination.tunnel
    return (TunnelEnd(type=tunnel.type, outer=family_of(destination.key.address), port=tunnel.port),)


def parse_tunnel_end(text: str) -> TunnelEnd:
    """Read what str() of one gives."""
    kind, outer, *port = text.split("/")
    return TunnelEnd(
        type=TunnelType[kind.upper()],
        outer=Family.IPV4 if outer == "4" else Family.IPV6,
        port=int(port[0]) if port else 0,
    )


def joined(*groups: tuple[TunnelEnd, ...]) -> tuple[TunnelEnd, ...]:
    """Return ends of several groups, each once and in order; one that is in two is as the last group says."""
    found = {str(end): end for group in groups for end in group}
    return tuple(found[name] for name in sorted(found))


def without(ends: tuple[TunnelEnd, ...], others: tuple[TunnelEnd, ...]) -> tuple[TunnelEnd, ...]:
    """Return those ends that are not among others, ready or not."""
    names = {str(each) for each in others}
    return tuple(end for end in ends if str(end) not in names)


def made_ready(ends: tuple[TunnelEnd, ...]) -> tuple[TunnelEnd, ...]:
    """Return ends as they are when packets are taken in."""
    return tuple(replace(end, ready=True) for end in ends)
