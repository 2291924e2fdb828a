"""What open transactions hold on their host. A lock never waits: whoever meets one is told whose it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lvsagent.v1 import operation_pb2

from agent_common import wire
from agent_common.destination import DestinationKey
from agent_common.errors import ConflictError, Reason
from agent_common.operation import Change
from agent_common.vip import VirtualServerHolder
from agent_common.virtual_server import FirewallMark
from agent_common.wire_settings import unpack_sync_role
from agent_common.wire_vip import unpack_holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A resource, and whether nobody else may have it; shared claims do not conflict with each other."""

    resource: str
    exclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What one transaction claims; begun is by time.monotonic."""

    transaction: str
    authority: str
    claims: tuple[Claim, ...]
    begun: float


def claims_of(changes: Iterable[Change]) -> tuple[Claim, ...]:
    """Return what changes claim.

    A destination nobody else may change, and nobody may make, edit or remove its virtual server meanwhile. A VIP is not
    locked but held, so holders do not conflict; only one hold must not be taken by one and given up by another.
    """
    return tuple(dict.fromkeys(claim for change in changes for claim in _claims_of(change)))


def _claims_of(change: Change) -> Sequence[Claim]:
    match change.WhichOneof("resource"):
        case "virtual_server":
            server = change.virtual_server.after if change.virtual_server.HasField("after") else None
            key = wire.unpack_key((server or change.virtual_server.before).key)
            return (Claim(resource=f"virtual server {key}", exclusive=change.made),)
        case "health":
            return (Claim(resource=f"virtual server {wire.unpack_key(change.health.virtual_server)}", exclusive=False),)
        case "destination":
            server_key = wire.unpack_key(change.destination.virtual_server)
            shared = Claim(resource=f"virtual server {server_key}", exclusive=False)
            destination = _destination_key(change.destination)
            if destination is None:  # it is not there: nobody may be about to add it to whom that is said
                address = change.destination.address
                return (Claim(resource=f"destinations at {address} in {server_key}", exclusive=True), shared)
            mine = Claim(resource=f"destination {destination} in {server_key}", exclusive=change.made)
            beside = Claim(resource=f"destinations at {destination.address} in {server_key}", exclusive=False)
            return (mine, beside, shared) if change.made else (mine, shared)
        case "vip":
            address = change.vip.after.address or change.vip.before.address
            # What puts a VIP back is nobody's hold, and waits for whoever takes or gives up one that is there.
            holders = [change.vip.holder] if change.vip.HasField("holder") else change.vip.after.holders
            found = [unpack_holder(each) for each in holders]
            resources = [f"VIP {address} held for {each.label}" for each in found]
            # Another VIP for a mark is another thing that each of its real servers must have: none may come meanwhile.
            resources += [
                f"virtual server {each.key}"
                for each in found
                if isinstance(each, VirtualServerHolder) and isinstance(each.key, FirewallMark)
            ]
            return [Claim(resource=resource, exclusive=change.made) for resource in resources]
        case "table":
            keys = [wire.unpack_key(key) for key in change.table.virtual_servers]
            return [Claim(resource=f"virtual server {key}", exclusive=True) for key in keys]
        case "timeouts":
            return (Claim(resource="timeouts", exclusive=change.made),)
        case "sync_daemon":
            role = unpack_sync_role(change.sync_daemon.role, "role")
            return (Claim(resource=f"sync daemon {role}", exclusive=change.made),)
        case _:
            return ()


def _destination_key(change: operation_pb2.DestinationChange) -> DestinationKey | None:
    for side in ("after", "before"):
        if change.HasField(side):
            return wire.unpack_destination_key(getattr(change, side).key)
    return None


class Locks:
    """The locks of a host, in memory: they follow from the transactions that are on disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._locks: dict[str, Lock] = {}

    def take(self, transaction: str, authority: str, claims: Sequence[Claim]) -> None:
        """Note what a transaction holds; `check` has been asked before."""
        lock = Lock(transaction=transaction, authority=authority, claims=tuple(claims), begun=self._clock())
        self._locks[transaction] = lock

    def release(self, transaction: str) -> None:
        """Let go of all that a transaction holds."""
        self._locks.pop(transaction, None)

    def check(self, changes: Iterable[Change], owner: str = "") -> None:
        """Raise ConflictError if another transaction than the owner holds what the changes claim."""
        others = [lock for lock in self._locks.values() if lock.transaction != owner]
        wanted = {claim.resource: claim for claim in claims_of(changes)} if others else {}
        for lock in others:
            for claim in lock.claims:
                mine = wanted.get(claim.resource)
                if mine is not None and (mine.exclusive or claim.exclusive):
                    age = self._clock() - lock.begun
                    raise ConflictError(
                        f"{claim.resource} is locked by transaction {lock.transaction} for {age:.0f} s",
                        Reason.LOCKED,
                        transaction=lock.transaction,
                        authority=lock.authority,
                        age=f"{age:.0f}",
                    )
