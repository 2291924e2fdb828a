"""The policy of a virtual server's health checks: which checks, and what follows from them. No I/O."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent_common.check import (
    AgentCheck,
    Check,
    HttpCheck,
    ScriptCheck,
    check_argv,
    check_seconds,
    kind_name,
)
from agent_common.check_input import check_header_name
from agent_common.destination import MAX_WEIGHT, Destination, DestinationKey, Forwarding
from agent_common.errors import InvalidInputError
from agent_common.virtual_server import Family, FirewallMark, VirtualServer

NO_POLICY = "none"
"""The etag of a policy that is not there (SetHealthRequest.etag)."""

MAX_OVERRIDES = 1000
MAX_PERCENT = 1000
MAX_CHANGES = 1000
MAX_FALLS = 100

_MOVES_CLIENTS = ("sh", "mh", "dh")
"""Schedulers that hash: each change of a weight moves clients."""


class Start(enum.Enum):
    """What a destination is taken for until its checks have said enough."""

    DOWN = "down"
    UP = "up"


class Effect(enum.Enum):
    """What is done to a destination that is down."""

    WEIGHT_ZERO = "weight-zero"
    REMOVE = "remove"


class WeightSource(enum.Enum):
    """Where the percentage of a dynamic weight is read."""

    AGENT_LOAD = "agent-load"
    HTTP_HEADER = "http-header"
    HTTP_BODY = "http-body"
    SCRIPT_STATUS = "script-status"


_NEEDED_KIND = {
    WeightSource.AGENT_LOAD: AgentCheck,
    WeightSource.HTTP_HEADER: HttpCheck,
    WeightSource.HTTP_BODY: HttpCheck,
    WeightSource.SCRIPT_STATUS: ScriptCheck,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicWeight:
    """The weight follows the check's answer, within percentages of the operator's; header is that of HTTP_HEADER."""

    source: WeightSource
    header: str = ""
    min_percent: int = 10
    max_percent: int = 100

    def bounded(self, percent: int) -> int:
        """Return a percentage within the bounds."""
        return min(max(percent, self.min_percent), self.max_percent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damping:
    """What goes down falls times within window seconds is held out for hold seconds after the last time; 0: never."""

    falls: int = 3
    window: float = 600.0
    hold: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """So many destinations stay in, or so many percent of them, whatever their checks say."""

    destinations: int = 1
    percent: int | None = None

    def of(self, number: int) -> int:
        """Return how many of a number of destinations stay in."""
        return self.destinations if self.percent is None else math.ceil(number * self.percent / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """How a virtual server's destinations are checked, and what follows. Times are in seconds.

    overrides: destinations with a check of their own; None: they are not checked. effect None: chosen by the
    scheduler. quorum and hysteresis are sums of weights. The sorry destination serves, alone, while the quorum is lost;
    it is checked only if it has a check of its own.
    """

    check: Check
    overrides: Mapping[DestinationKey, Check | None] = field(default_factory=dict)
    start: Start = Start.DOWN
    effect: Effect | None = None
    slow_start: float = 0.0
    dynamic_weight: DynamicWeight | None = None
    quorum: int = 1
    hysteresis: int = 0
    up_command: tuple[str, ...] = ()
    down_command: tuple[str, ...] = ()
    sorry: DestinationKey | None = None
    floor: Floor = field(default_factory=Floor)
    damping: Damping = field(default_factory=Damping)
    max_changes: int = 100

    def check_of(self, destination: DestinationKey) -> Check | None:
        """Return how a destination is checked; None: it is not.

        What the others must answer the sorry server need not: it has no check but one of its own.
        """
        return self.overrides.get(destination, None if destination == self.sorry else self.check)

    def named_checks(self) -> Iterator[tuple[str, Check]]:
        """Return every check with the field that says it."""
        yield "policy.check", self.check
        for number, check in enumerate(self.overrides.values()):
            if check is not None:
                yield f"policy.overrides[{number}].check", check

    def commands(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Return every program that it has run, with the field that says so."""
        for name, check in self.named_checks():
            if isinstance(check.kind, ScriptCheck):
                yield f"{name}.script.argv", check.kind.argv
        for name, argv in (("up_command", self.up_command), ("down_command", self.down_command)):
            if argv:
                yield f"policy.{name}", argv

    def effect_under(self, server: VirtualServer) -> Effect:
        """Return what is done to one that is down."""
        return self.effect or (Effect.REMOVE if server.refuses_at_weight_zero else Effect.WEIGHT_ZERO)

    def validate(self) -> HealthPolicy:
        """Raise InvalidInputError for what is impossible wherever it is used; return it."""
        for name, check in self.named_checks():
            check.check(name)
        if len(self.overrides) > MAX_OVERRIDES:
            raise InvalidInputError("policy.overrides", f"policy.overrides: more than {MAX_OVERRIDES}")
        if self.slow_start:
            check_seconds("policy.slow_start", self.slow_start, 1, 3600)
        _check_dynamic(self)
        _check_quorum(self)
        for name, argv in (("up_command", self.up_command), ("down_command", self.down_command)):
            if argv:
                check_argv(argv, f"policy.{name}")
        _check_safety(self)
        return self

    def validate_for(self, server: VirtualServer, destinations: Sequence[Destination]) -> None:
        """Raise InvalidInputError for what is impossible with this virtual server and its destinations."""
        if server.scheduler in _MOVES_CLIENTS:
            for name, value in (("slow_start", self.slow_start), ("dynamic_weight", self.dynamic_weight)):
                if value:
                    raise InvalidInputError(
                        f"policy.{name}",
                        f"policy.{name}: not with scheduler {server.scheduler}: each step moves clients",
                    )
        for name, check in self.named_checks():
            _check_ports(name, check, server)
        for each in destinations:
            check_destination(self, each)

    def check_quorum(self, destinations: Sequence[Destination]) -> None:
        """Raise InvalidInputError for a quorum that the weights of these destinations never come to."""
        others = [each for each in destinations if each.key != self.sorry]
        total = sum(each.weight for each in others)
        if others and self.quorum + self.hysteresis > total:
            raise InvalidInputError(
                "policy.quorum",
                f"policy.quorum: {self.quorum}{f' and hysteresis {self.hysteresis}' if self.hysteresis else ''} "
                f"can never be reached: the weights of the destinations come to {total}",
            )


def check_destination(policy: HealthPolicy, destination: Destination) -> None:
    """Raise InvalidInputError for a check that a destination cannot have."""
    check = policy.check_of(destination.key)
    if check is None:
        return
    if check.needs_port and not check.port_of(destination.key.port):
        raise InvalidInputError(
            "policy.check.port", f"policy.check.port: must be set: {destination.key} has no port of its own"
        )
    if check.through_vip and destination.forwarding is Forwarding.MASQUERADING:
        raise InvalidInputError(
            "policy.check.through_vip",
            f"policy.check.through_vip: not for {destination.key}: with nat no VIP is on the real server",
        )


def _check_ports(name: str, check: Check, server: VirtualServer) -> None:
    """Raise InvalidInputError where a check through the VIP's path has no port or no VIP to go to."""
    if not check.through_vip:
        return
    if check.by_mark and server.key.family is not Family.IPV4:
        raise InvalidInputError(f"{name}.by_mark", f"{name}.by_mark: IPv4 only")
    if isinstance(server.key, FirewallMark):
        raise InvalidInputError(
            f"{name}.through_vip", f"{name}.through_vip: not with a firewall mark, which does not say what the VIP is"
        )
    if not check.port_of(server.key.port):
        raise InvalidInputError(f"{name}.port", f"{name}.port: must be set: {server.key} has no port of its own")


def _check_dynamic(policy: HealthPolicy) -> None:
    dynamic = policy.dynamic_weight
    if dynamic is None:
        return
    name = "policy.dynamic_weight"
    needed = _NEEDED_KIND[dynamic.source]
    if not isinstance(policy.check.kind, needed):
        raise InvalidInputError(
            name, f"{name}: {dynamic.source.value} is not to be had of a check of kind {kind_name(policy.check.kind)}"
        )
    if dynamic.source is WeightSource.HTTP_HEADER and not dynamic.header:
        raise InvalidInputError(f"{name}.http_header", f"{name}.http_header: must be set")
    if dynamic.header:
        check_header_name(f"{name}.http_header", dynamic.header)
    for _, each in policy.named_checks():
        if dynamic.source is WeightSource.HTTP_BODY and isinstance(each.kind, HttpCheck) and each.kind.method == "HEAD":
            raise InvalidInputError(f"{name}.http_body", f"{name}.http_body: an answer to HEAD has none")
    if not 1 <= dynamic.min_percent <= dynamic.max_percent <= MAX_PERCENT:
        raise InvalidInputError(
            f"{name}.min_percent",
            f"{name}: {dynamic.min_percent} to {dynamic.max_percent} percent is no range (1 to {MAX_PERCENT})",
        )


def _check_quorum(policy: HealthPolicy) -> None:
    if not 1 <= policy.quorum <= MAX_WEIGHT:
        raise InvalidInputError("policy.quorum", f"policy.quorum: {policy.quorum} is out of range (1 to {MAX_WEIGHT})")
    if not 0 <= policy.hysteresis < MAX_WEIGHT:
        raise InvalidInputError(
            "policy.hysteresis",
            f"policy.hysteresis: {policy.hysteresis} is out of range (0 to {MAX_WEIGHT - 1})",
        )
    if policy.hysteresis >= policy.quorum:
        raise InvalidInputError(
            "policy.hysteresis",
            f"policy.hysteresis: {policy.hysteresis} must be less than the quorum ({policy.quorum})",
        )


def _check_safety(policy: HealthPolicy) -> None:
    floor, damping = policy.floor, policy.damping
    if not 0 <= floor.destinations <= 1000:
        raise InvalidInputError("policy.floor", f"policy.floor: {floor.destinations} is out of range (0 to 1000)")
    if floor.percent is not None and not 0 <= floor.percent <= 100:
        raise InvalidInputError("policy.floor", f"policy.floor: {floor.percent} % is out of range (0 to 100)")
    if not 2 <= damping.falls <= MAX_FALLS:
        raise InvalidInputError(
            "policy.damping.falls", f"policy.damping.falls: {damping.falls} is out of range (2 to {MAX_FALLS})"
        )
    check_seconds("policy.damping.window", damping.window, 1, 86400)
    check_seconds("policy.damping.hold", damping.hold, 0, 86400)
    if not 1 <= policy.max_changes <= MAX_CHANGES:
        raise InvalidInputError(
            "policy.max_changes_per_second",
            f"policy.max_changes_per_second: {policy.max_changes} is out of range (1 to {MAX_CHANGES})",
        )
