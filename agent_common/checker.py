"""What a check is asked and what it answers: the seam between the kinds of checks and whoever has them made. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agent_common.check import Kind
from agent_common.destination import PLAIN_TUNNEL, Forwarding, Tunnel
from agent_common.health import DynamicWeight
from agent_common.virtual_server import IpAddress, VirtualServerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked; address and port are those of the real server, port 0 where a kind needs none.

    dynamic_weight: what the answer says of the weight is wanted, too. by_mark: the director itself asks the VIP, with a
    mark, and from its own address, the source.
    """

    address: IpAddress
    port: int
    virtual_server: VirtualServerKey
    forwarding: Forwarding = Forwarding.DIRECT_ROUTING
    through_vip: bool = False
    agent_port: int = 0
    dynamic_weight: DynamicWeight | None = None
    by_mark: bool = False
    tunnel: Tunnel = PLAIN_TUNNEL
    mark: int = 0
    source: IpAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether a check has passed; detail is for people, percent what the answer says of the weight, unbounded."""

    passed: bool
    detail: str = ""
    percent: int | None = None


class Checker(Protocol):
    """Makes one check."""

    async def __call__(self, kind: Kind, target: Target, seconds: float) -> Answer:
        """Return what came of it within so many seconds; what goes wrong on the way is an answer, never an error."""
