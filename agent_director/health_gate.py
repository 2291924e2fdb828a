"""Asks a destination that is to be added by its own check whether it can serve, again and again for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from agent_common.check import Check
from agent_common.checker import Checker, Target
from agent_common.destination import PLAIN_TUNNEL, Destination, DestinationKey, Forwarding, Tunnel
from agent_common.errors import ExhaustedError, Reason
from agent_common.health import HealthPolicy, check_destination
from agent_common.virtual_server import VirtualServerKey
from agent_common.worker import Run
from agent_director.destination import Destinations
from agent_director.health_records import HealthRecords, missing_policy

GATE_SECONDS = 0.5
"""Between the beginnings of two checks, unless the interval is shorter."""

MAX_WAITING = 64
"""Callers that wait at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Whether a destination has passed, what the last check said, and how many there were: 0 if it is not checked."""

    passed: bool
    detail: str = ""
    checks: int = 0


class HealthGate:
    """Checks destinations before they are added; one that has passed begins as up."""

    def __init__(self, records: HealthRecords, destinations: Destinations, checker: Checker, run: Run) -> None:
        self._records = records
        self._destinations = destinations
        self._checker = checker
        self._run = run
        self._waiting = 0

    async def check(
        self,
        server: VirtualServerKey,
        key: DestinationKey,
        forwarding: Forwarding | None,
        wait: float | None,
        *,
        tunnel: Tunnel = PLAIN_TUNNEL,
    ) -> Passage:
        """Check until it has passed rise times in a row, or for wait seconds; None: rise times.

        forwarding and tunnel are how packets will get there; None: as to the destination that is there.
        Raises NotFoundError where the virtual server has no policy, ExhaustedError where too many wait.
        """
        policy, committed = await self._run(lambda: self._read(server))
        destination = committed.get(key) or Destination(key=key)
        if forwarding is not None:
            destination = Destination(key=key, forwarding=forwarding, tunnel=tunnel)
        check = policy.check_of(key)
        if check is None or key == policy.sorry:
            return Passage(passed=True)
        check_destination(policy, destination)
        if self._waiting >= MAX_WAITING:
            raise ExhaustedError(f"{MAX_WAITING} callers wait for a destination already", Reason.TOO_MANY_CALLS)
        self._waiting += 1
        try:
            passage = await self._until_passed(check, target_of(server, policy, destination, check), wait)
        finally:
            self._waiting -= 1
        if passage.passed:
            await self._run(lambda: self._records.prove(server, key))
        return passage

    def _read(self, server: VirtualServerKey) -> tuple[HealthPolicy, Mapping[DestinationKey, Destination]]:
        policy = self._records.policy(server)
        if policy is None:
            raise missing_policy(server)
        return policy, self._destinations.committed_in(server)

    async def _until_passed(self, check: Check, target: Target, wait: float | None) -> Passage:
        end = None if wait is None else time.monotonic() + wait
        passed, made = 0, 0
        while True:
            begun = time.monotonic()
            seconds = check.timeout if end is None else min(check.timeout, max(end - begun, 0.01))
            answer = await self._checker(check.kind, target, seconds)
            made += 1
            passed = passed + 1 if answer.passed else 0
            pause = max(0.0, begun + min(check.interval, GATE_SECONDS) - time.monotonic())
            is_last = made >= check.rise if end is None else time.monotonic() + pause >= end
            if passed >= check.rise or is_last:
                return Passage(passed=passed >= check.rise, detail=answer.detail, checks=made)
            await asyncio.sleep(pause)


def target_of(server: VirtualServerKey, policy: HealthPolicy, destination: Destination, check: Check) -> Target:
    """Return what a check of a destination asks."""
    return Target(
        address=destination.key.address,
        port=check.port_of(destination.key.port),
        virtual_server=server,
        forwarding=destination.forwarding,
        through_vip=check.through_vip,
        agent_port=check.agent_port,
        dynamic_weight=policy.dynamic_weight,
        by_mark=check.by_mark,
        tunnel=destination.tunnel,
    )
