"""A virtual server under watch, with its destinations: what is known of them, and what is to be done. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lvsagent.v1 import health_pb2

from agent_common.check import Check
from agent_common.destination import Destination, DestinationHealth, DestinationKey, Verdict
from agent_common.health import Effect, HealthPolicy
from agent_common.virtual_server import VirtualServerKey
from agent_director.check_pace import Paced
from agent_director.health_effect import Decided, Decision, Member, decide
from agent_director.health_log import EventKind
from agent_director.health_records import Stood
from agent_director.judge import Judge

_GRAIN = 0.05
"""Seconds between two decisions, at least, where there is no room for all changes at once."""

News = tuple[EventKind.ValueType, str]
"""Kind of an event, and why it came."""


@dataclass(slots=True, kw_only=True, eq=False)
class Checked:
    """A destination: how it is checked (None: not at all), what that says, and how it stands in the kernel.

    came_in: when it came back in, by the monotonic clock; None: it never was out. refused: why it does not stand as it
    should; again: when that is tried again, by the monotonic clock.
    """

    destination: Destination
    check: Check | None
    judge: Judge
    stood: Stood
    came_in: float | None = None
    note: str = ""
    refused: str = ""
    again: float = 0.0
    paced: Paced | None = None

    @property
    def is_out(self) -> bool:
        """Whether it gets no connections because of its checks."""
        return self.stood.standing.is_out

    def member(self, policy: HealthPolicy, now: float) -> Member:
        """Return it as it is judged at a moment."""
        judge, destination, dynamic = self.judge, self.destination, policy.dynamic_weight
        until = judge.held_until(policy.damping, now) if self.check is not None else 0.0
        came_in = now if self.is_out else self.came_in
        return Member(
            key=destination.key,
            weight=0 if destination.draining else destination.weight,
            is_up=judge.is_up or self.check is None,
            proven=judge.proven or self.check is None,
            is_out=self.is_out,
            is_removed=self.stood.standing.removed,
            down_since=judge.turned,
            held=max(0.0, until - now),
            up_for=None if came_in is None else now - came_in,
            percent=100 if self.check is None or dynamic is None else dynamic.bounded(judge.percent),
        )

    def health(self) -> DestinationHealth:
        """Return what is told of it."""
        judge, standing = self.judge, self.stood.standing
        verdict = Verdict.UP if judge.is_up else Verdict.DOWN
        return DestinationHealth(
            verdict=Verdict.UNCHECKED if self.check is None else verdict,
            proven=judge.proven,
            since=judge.since,
            detail=judge.detail,
            checked=judge.checked,
            took=judge.took,
            against=judge.against,
            percent=standing.percent,
            removed=standing.removed,
            note="; ".join(filter(None, (self.note, self.refused))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What is to be done: destinations that are to stand otherwise, and what is to be told of the whole.

    again: the seconds after which it is to be decided once more, if nothing else happens; None: not by itself.
    """

    wanted: list[tuple[DestinationKey, Stood]]
    news: list[News]
    again: float | None


@dataclass(slots=True, kw_only=True, eq=False)
class CheckedServer:
    """A virtual server with a policy. since is of the quorum, in seconds of the wall clock."""

    key: VirtualServerKey
    policy: HealthPolicy
    effect: Effect
    has_quorum: bool
    since: float
    members: dict[DestinationKey, Checked] = field(default_factory=dict)
    weight_up: int = 0
    alarm: str = ""
    _tokens: float = 0.0
    _counted: float = float("-inf")

    def decide(self, now: float, wall: float) -> Verdicts:
        """Decide how destinations are to stand, at a moment of the monotonic clock and of the wall clock."""
        members = [each.member(self.policy, now) for each in self.members.values()]
        decision = decide(self.policy, self.effect, members, has_quorum=self.has_quorum)
        news = list(self._news(decision, wall))
        others = [
            (self.members[key], decided)
            for key, decided in decision.standings.items()
            if self._is_other(self.members[key], decided)
        ]
        wanted = [(each.destination.key, self._stood(each, to, wall)) for each, to in others if each.again <= now]
        wanted.sort(key=self._turn)
        room = self._room(now)
        moments = [each.again - now for each, _ in others if each.again > now]
        if len(wanted) > room:
            moments.append(max(1 / self.policy.max_changes, _GRAIN))
        if decision.again is not None:
            moments.append(decision.again)
        self._tokens -= min(room, len(wanted))
        return Verdicts(wanted=wanted[:room], news=news, again=min(moments, default=None))

    def _turn(self, wanted: tuple[DestinationKey, Stood]) -> tuple[bool, int]:
        """Order changes: who is dead goes first, and who is up only once others have come in its place.

        What was refused waits for all others: it may be so again.
        """
        key, stood = wanted
        turn = 1 if stood.standing.percent else 0 if stood.is_down else 2
        return bool(self.members[key].refused), turn

    def _is_other(self, checked: Checked, decided: Decided) -> bool:
        checked.note = decided.note
        is_other = checked.stood.standing != decided.standing
        if not is_other:  # what was refused is not wanted any more
            checked.refused, checked.again = "", 0.0
        return is_other

    def _stood(self, checked: Checked, decided: Decided, wall: float) -> Stood:
        is_down = not checked.judge.is_up and checked.check is not None
        why = checked.judge.detail if is_down else decided.note
        return Stood(standing=decided.standing, since=wall, why=why, is_down=is_down)

    def _news(self, decision: Decision, wall: float) -> Iterator[News]:
        """Tell of quorum and alarm, and note them."""
        if decision.has_quorum != self.has_quorum:
            self.has_quorum, self.since = decision.has_quorum, wall
            lost, regained = health_pb2.HEALTH_EVENT_KIND_QUORUM_LOST, health_pb2.HEALTH_EVENT_KIND_QUORUM_REGAINED
            yield regained if decision.has_quorum else lost, f"weight {decision.weight_up} is up"
        if bool(decision.alarm) != bool(self.alarm):
            if decision.alarm:
                yield health_pb2.HEALTH_EVENT_KIND_ALARM, decision.alarm
            else:
                yield health_pb2.HEALTH_EVENT_KIND_ALARM_OVER, ""
        self.alarm, self.weight_up = decision.alarm, decision.weight_up

    def _room(self, now: float) -> int:
        """Return how many changes may be made now, so that there are only so many in a second."""
        most = self.policy.max_changes
        self._tokens = min(float(most), self._tokens + (now - self._counted) * most)
        self._counted = now
        return int(self._tokens + 1e-9)
