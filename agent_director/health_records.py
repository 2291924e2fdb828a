"""What a director keeps of health on disk: the policies, and how destinations stand by their checks.

How they stand is what the agent itself has made of the kernel, beside what the operator wants. It is on disk so that a
restart neither leaves a weight 0 behind nor puts a dead server back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lvsagent.v1 import health_pb2

from agent_common.destination import WHOLE, DestinationHealth, DestinationKey, Standing, Verdict
from agent_common.errors import InvalidInputError, NotFoundError, Reason
from agent_common.health import Effect, HealthPolicy, Start
from agent_common.records import from_record, to_record
from agent_common.state import Body, State
from agent_common.virtual_server import VirtualServer, VirtualServerKey, parse_address, parse_key
from agent_common.wire_health import pack_policy, unpack_policy
from agent_director.destination_record import record_name
from agent_director.recent import Recent

Name = tuple[VirtualServerKey, DestinationKey]
"""A destination of a virtual server."""

_POLICY = "health"
_STANDING = "standing"
_QUORUM = "quorum"

PROVEN_SECONDS = 300.0
"""So long a destination that has passed its check counts as up when it is added, and one that was down as down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stood:
    """How a destination stands, since when (seconds of the wall clock), and why; for people.

    is_down: because its own checks say so, or have not said anything yet. was: how it stood before, as long as it is
    not certain that the kernel has been written since.
    """

    standing: Standing
    since: float = 0.0
    why: str = ""
    is_down: bool = False
    was: Standing | None = None


NEW = "not checked yet"
"""Why a new destination is out."""

AS_WANTED = Stood(standing=WHOLE)


def _ignore(server: VirtualServerKey) -> None:
    """Nobody watches."""


class HealthRecords:
    """Policies and standings: read from disk once, and written through. For the worker thread.

    touched is told of a virtual server whose policy or destinations may have changed.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._loaded = False
        self._policies: dict[VirtualServerKey, HealthPolicy] = {}
        self._standings: dict[VirtualServerKey, dict[DestinationKey, Stood]] = {}
        self._without_quorum: set[VirtualServerKey] = set()
        self._proven = _recent()
        self._doubted = _recent()
        self._gone = _recent()
        self._unsettled: dict[Name, Stood] = {}
        self.touched: Callable[[VirtualServerKey], None] = _ignore

    def load(self) -> None:
        """Read the records, if they are not read yet: what makes no sense is to be found at the start."""
        if self._loaded:
            return
        policies = {
            parse_key(name): unpack_policy(from_record(body["policy"], health_pb2.HealthPolicy()))
            for name, body in self._state.list(_POLICY).items()
        }
        standings = [_read_standing(body) for body in self._state.bodies(_STANDING)]
        self._without_quorum = {parse_key(name) for name in self._state.list(_QUORUM)}
        self._policies = policies
        for server, key, stood in standings:
            if stood.was is not None:
                self._unsettled[server, key] = replace(stood, was=None)
                before = replace(stood, standing=stood.was, was=None, is_down=stood.was.is_out)
            else:
                before = stood
            self._standings.setdefault(server, {})[key] = before
        self._loaded = True  # not before: half of it would be taken for the whole

    def policies(self) -> Mapping[VirtualServerKey, HealthPolicy]:
        """Return all policies."""
        self.load()
        return self._policies

    def policy(self, server: VirtualServerKey) -> HealthPolicy | None:
        """Return the policy of a virtual server, or None if it has none."""
        return self.policies().get(server)

    def check_server(self, after: VirtualServer) -> None:
        """Raise InvalidInputError for a virtual server that, as it is to be, does not go with how it is checked."""
        policy = self.policy(after.key)
        if policy is None:
            return
        try:
            policy.validate_for(after, ())
        except InvalidInputError as error:
            raise InvalidInputError(
                "scheduler",
                f"scheduler: {after.key} is checked in a way that does not go with it ({error.message}); "
                f"change that first: lvs health set {after.key}, or lvs health remove",
            ) from error

    def set_policy(self, server: VirtualServerKey, policy: HealthPolicy | None) -> None:
        """Keep a policy; None: forget it."""
        self.load()
        if policy is None:
            if self._policies.pop(server, None) is not None:
                self._state.delete(_POLICY, str(server))
        else:
            self._state.put(_POLICY, str(server), {"policy": to_record(pack_policy(policy))})
            self._policies[server] = policy
        self.touched(server)

    def stood(self, server: VirtualServerKey) -> Mapping[DestinationKey, Stood]:
        """Return those destinations of a virtual server that do not stand as the operator wants."""
        self.load()
        return self._standings.get(server, {})

    def servers_with_standings(self) -> list[VirtualServerKey]:
        """Return the virtual servers of which a destination does not stand as the operator wants."""
        self.load()
        return [server for server, stood in self._standings.items() if stood]

    def report(self, server: VirtualServerKey, key: DestinationKey) -> DestinationHealth | None:
        """Return what is known of a destination's health where no checks run."""
        stood = self.stood(server).get(key, AS_WANTED)
        verdict = Verdict.DOWN if stood.is_down else Verdict.UP
        return DestinationHealth(
            verdict=verdict,
            since=stood.since,
            detail=stood.why,
            percent=stood.standing.percent,
            removed=stood.standing.removed,
        )

    def standing(self, server: VirtualServerKey, key: DestinationKey) -> Standing:
        """Return how a destination stands."""
        return self.stood(server).get(key, AS_WANTED).standing

    def first(self, server: VirtualServerKey, key: DestinationKey, effect: Effect) -> Stood:
        """Return how a destination stands that is new, or of which nothing is known: the sorry one is out."""
        policy = self.policy(server)
        is_proven = self._proven.take((server, key))
        is_doubted = self._doubted.take((server, key))
        if policy is None:
            return AS_WANTED
        is_believed = (policy.start is Start.UP and not is_doubted) or policy.check_of(key) is None or is_proven
        if key != policy.sorry and is_believed:
            return AS_WANTED
        standing = Standing(percent=0, removed=effect is Effect.REMOVE)
        return Stood(standing=standing, since=time.time(), why=NEW, is_down=key != policy.sorry)

    def set_standings(self, wanted: Iterable[tuple[VirtualServerKey, DestinationKey, Stood]]) -> None:
        """Keep how destinations stand, in one write; what stands as the operator wants needs no record.

        In memory it is kept even where the disk is full, which ExhaustedError tells: what is dead goes out all the
        same.
        """
        self.load()
        wanted = list(wanted)
        for server, key, stood in wanted:
            if _is_plain(stood):
                self._standings.get(server, {}).pop(key, None)
            else:
                self._standings.setdefault(server, {})[key] = stood
        with self._state.transaction():
            for server, key, stood in wanted:
                if _is_plain(stood):
                    self._state.delete(_STANDING, record_name(server, key))
                else:
                    self._state.put(_STANDING, record_name(server, key), _standing_body(server, key, stood))

    def unsettled(self, server: VirtualServerKey, key: DestinationKey) -> Stood | None:
        """Return once how a destination was about to stand when the agent before this one died; until then it stood.

        Whether the kernel was written only the kernel can tell.
        """
        self.load()
        return self._unsettled.pop((server, key), None)

    def forget(self, server: VirtualServerKey, key: DestinationKey) -> None:
        """Forget how a destination stands, which goes; one that was down is not believed if it is soon put back."""
        self._gone.add([(server, key)])
        if key in self.stood(server):
            self._doubt(server, [key])
            self.set_standings([(server, key, AS_WANTED)])

    def forget_all(self, server: VirtualServerKey) -> None:
        """Forget what is kept of a virtual server that goes, its policy too."""
        stood = list(self.stood(server))
        self._doubt(server, stood)
        self.set_standings([(server, key, AS_WANTED) for key in stood])
        self.set_quorum(server, has_quorum=True)
        self.set_policy(server, None)

    def _doubt(self, server: VirtualServerKey, gone: Iterable[DestinationKey]) -> None:
        self._doubted.add([(server, key) for key in gone if self.stood(server)[key].is_down])

    def prove_again(self, names: Iterable[Name]) -> None:
        """Count as up, unless it was down when it went, what comes back because its removal is taken back.

        Of what went before this agent began nothing is known.
        """
        self._proven.add([name for name in names if self._gone.take(name) and name not in self._doubted])

    def has_quorum(self, server: VirtualServerKey) -> bool:
        """Whether the virtual server had its quorum when that was last judged."""
        self.load()
        return server not in self._without_quorum

    def set_quorum(self, server: VirtualServerKey, *, has_quorum: bool) -> None:
        """Keep whether it has; in memory even where the disk is full, which ExhaustedError tells."""
        if has_quorum == self.has_quorum(server):
            return
        if has_quorum:
            self._without_quorum.discard(server)
            self._state.delete(_QUORUM, str(server))
        else:
            self._without_quorum.add(server)
            self._state.put(_QUORUM, str(server), {"lost": True})

    def prove(self, server: VirtualServerKey, key: DestinationKey) -> None:
        """Remember for a while, not on disk, that a destination has passed its check before it is added, once."""
        self._proven.add([(server, key)])


def _recent() -> Recent[Name]:
    return Recent(PROVEN_SECONDS)


def _is_plain(stood: Stood) -> bool:
    """Whether there is nothing to be kept."""
    return stood.standing == WHOLE and stood.was is None


def _standing_body(server: VirtualServerKey, key: DestinationKey, stood: Stood) -> dict[str, Any]:
    was = {} if stood.was is None else {"was_percent": stood.was.percent, "was_removed": stood.was.removed}
    return {
        **was,
        "server": str(server),
        "address": str(key.address),
        "port": key.port,
        "percent": stood.standing.percent,
        "removed": stood.standing.removed,
        "since": stood.since,
        "why": stood.why,
        "is_down": stood.is_down,
    }


def _read_standing(body: Body) -> tuple[VirtualServerKey, DestinationKey, Stood]:
    standing = Standing(percent=int(body["percent"]), removed=bool(body["removed"]))
    return (
        parse_key(body["server"]),
        DestinationKey(address=parse_address(body["address"], "address"), port=int(body["port"])),
        Stood(
            standing=standing,
            since=float(body["since"]),
            why=str(body["why"]),
            is_down=bool(body["is_down"]),
            was=Standing(percent=int(body["was_percent"]), removed=bool(body["was_removed"]))
            if "was_percent" in body
            else None,
        ),
    )


def missing_policy(server: VirtualServerKey) -> NotFoundError:
    """Return the error for a virtual server that is not checked."""
    return NotFoundError(
        f"{server} has no health checks; lvs health set {server} --check KIND begins them",
        Reason.HEALTH_NOT_FOUND,
        virtual_server=str(server),
    )
