"""A change that spans hosts, as one agent keeps it. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from lvsagent.v1 import operation_pb2, transaction_pb2

from agent_common.errors import InvalidInputError
from agent_common.etag import etag_of
from agent_common.operation import Change, Operation
from agent_common.records import from_record, to_record
from agent_common.state import Body

MIN_LEASE, MAX_LEASE = 5.0, 900.0
"""Seconds that a coordinator may be silent."""

INERT = frozenset({"create_virtual_server", "create_vip", "silence_arp"})
"""Operations that do no client any harm: they are made when a transaction is prepared, all others when it commits.

A destination is not, not even with weight 0: under sh and dh it takes a share of the clients and refuses them.
"""

FAILED_OPERATION = "operation"
"""Metadata of an error: the number of the operation that is at fault, from 0."""

Participant = transaction_pb2.Participant
Following = transaction_pb2.Following


class TransactionState(enum.StrEnum):
    """Where a transaction stands at one agent."""

    PREPARED = "prepared"
    READY = "ready"
    COMMITTED = "committed"
    ABORTED = "aborted"

    @property
    def is_decided(self) -> bool:
        """Whether it cannot end otherwise any more."""
        return self in (TransactionState.COMMITTED, TransactionState.ABORTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transaction; expires is by CLOCK_BOOTTIME of the boot named, created by the wall clock, for people only.

    settled says whether the kernel is as the state says. following is what others still have to do when it is
    committed; drain_timeout is for how many seconds they wait for connections, and expires is when those are over.
    """

    id: str
    state: TransactionState
    purpose: str = ""
    authority: str = ""
    participants: tuple[Participant, ...] = ()
    fence: int = 0
    lease: float = 0.0
    expires: float = 0.0
    boot: str = ""
    operations: tuple[Operation, ...] = ()
    changes: tuple[Change, ...] = ()
    settled: bool = True
    problems: tuple[str, ...] = ()
    created: float = 0.0
    following: tuple[Following, ...] = ()
    drain_timeout: float = 0.0

    @property
    def is_locking(self) -> bool:
        """Whether the kernel is not yet as the outcome says: until then nobody else changes what it names."""
        return not (self.state.is_decided and self.settled)

    @property
    def is_followed(self) -> bool:
        """Whether it is committed, and others have still something to do."""
        return self.state is TransactionState.COMMITTED and bool(self.following)

    @property
    def is_open(self) -> bool:
        """Whether there is still something to do about it."""
        return self.is_locking or self.is_followed

    @property
    def made(self) -> list[Change]:
        """Return what was made of an undecided one: what an abort takes back."""
        pairs = zip(self.operations, self.changes, strict=True)
        return [change for operation, change in pairs if is_inert(operation)]


def is_inert(operation: Operation) -> bool:
    """Whether an operation does no client any harm before the decision."""
    return operation.WhichOneof("operation") in INERT


def check_lease(seconds: float, field: str = "lease") -> float:
    """Return a lease that is in range."""
    if not MIN_LEASE <= seconds <= MAX_LEASE:
        raise InvalidInputError(field, f"{field}: {seconds:g} s is out of range ({MIN_LEASE:g} to {MAX_LEASE:g} s)")
    return seconds


def tag(changes: Sequence[Change]) -> str:
    """Return the tag of what changes do: another one means that the host is not as it was."""
    whole = operation_pb2.Changes()
    for change in changes:
        whole.changes.add().CopyFrom(change)
        whole.changes[-1].id = ""
    return etag_of(whole)


def to_body(transaction: Transaction) -> Body:
    """Return a transaction as the state keeps it."""
    return {
        "state": transaction.state.value,
        "purpose": transaction.purpose,
        "authority": transaction.authority,
        "participants": [to_record(each) for each in transaction.participants],
        "fence": transaction.fence,
        "lease": transaction.lease,
        "expires": transaction.expires,
        "boot": transaction.boot,
        "operations": [to_record(each) for each in transaction.operations],
        "changes": [to_record(each) for each in transaction.changes],
        "settled": transaction.settled,
        "problems": list(transaction.problems),
        "created": transaction.created,
        "following": [to_record(each) for each in transaction.following],
        "drain_timeout": transaction.drain_timeout,
    }


def from_body(name: str, body: Body) -> Transaction:
    """Return the transaction of a record."""
    return Transaction(
        id=name,
        state=TransactionState(body["state"]),
        purpose=body["purpose"],
        authority=body["authority"],
        participants=tuple(from_record(each, Participant()) for each in body["participants"]),
        fence=body["fence"],
        lease=body["lease"],
        expires=body["expires"],
        boot=body["boot"],
        operations=tuple(from_record(each, Operation()) for each in body["operations"]),
        changes=tuple(from_record(each, Change()) for each in body["changes"]),
        settled=body["settled"],
        problems=tuple(body["problems"]),
        created=body["created"],
        following=tuple(from_record(each, Following()) for each in body.get("following", [])),
        drain_timeout=body.get("drain_timeout", 0.0),
    )
