"""One agent of the model: what it has on disk of each transaction, what its kernel has, and what messages make of both.

What the kernel has is also on disk, as intent: so a restart in the same boot changes nothing, and a reboot brings it
back. Of what an agent may be doing when it dies, two moments can be seen from outside: a commit and an abort that are
recorded and not yet carried out. An agent that dies in a preparation takes it back when it starts, as if the message
had not come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

PREPARED, READY, COMMITTED, ABORTED = "prepared", "ready", "committed", "aborted"

THERE, TAKING, DRAINING, ABSENT = "there", "taking connections", "draining", ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of docs/explanation/transactions.md, each of which can be left out."""

    # An agent's.
    ready_does_not_expire: bool = True
    other_director_asks: bool = True
    tombstones: bool = True
    reserves_only: bool = True
    """A destination is written into the kernel at the commit, not at the preparation."""
    reboot_ends_leases: bool = True
    locks: bool = True
    absent_is_locked: bool = True
    """Whoever says that a destination is absent asks whether a transaction is about to add it."""
    undo_compares: bool = True
    """What is taken back is each resource by itself, while it is as it was made; not the host as it was before."""
    holders_are_counted: bool = True

    # A coordinator's.
    preflight_heeds_locks: bool = True
    """add-backend leaves out what a director has in place, but not while another transaction may take it away."""
    asks_directors_alike: bool = True
    """Whoever changes a destination asks every director for it, also where it is so already: there it is locked."""
    ready_before_commit: bool = True
    asks_after_lost_commit: bool = True
    undoes_the_authority_first: bool = True
    """Where a commit may be on its way, nobody else is told to abort before the authority has."""

    # Those of whoever does what follows a removal.
    asks_every_director: bool = True
    only_if_draining: bool = True
    forgets_only: bool = True
    """The directors' note of the real server's VIP is taken away, and not a destination that is there again."""
    newer_keep_the_vip: bool = True
    """A real server does not give up what a transaction wants that is newer than the removal."""
    open_counts_as_newer: bool = True


class Operation(NamedTuple):
    """What an agent is asked for: that a resource is so afterwards, if it is now one of `allowed`.

    Inert operations are made at the preparation, all others at the commit. within is the virtual server of a
    destination.
    """

    resource: str
    wanted: str
    allowed: tuple[str, ...]
    inert: bool = False
    within: str = ""


class Change(NamedTuple):
    """An operation as one agent finds it, and from which value it changes the resource."""

    operation: Operation
    before: str

    @property
    def made(self) -> bool:
        return self.before != self.operation.wanted


class Record(NamedTuple):
    """One transaction in an agent's journal; settled says whether the kernel is as the state says.

    snapshot is the kernel as it was before; frozen is for an agent that does not notice the end of a lease any more.
    """

    state: str
    changes: tuple[Change, ...] = ()
    settled: bool = True
    snapshot: frozenset[tuple[str, str]] = frozenset()
    frozen: bool = False

    @property
    def decided(self) -> bool:
        return self.state in (COMMITTED, ABORTED)

    @property
    def locking(self) -> bool:
        return not (self.decided and self.settled)


Kernel = frozenset[tuple[str, str]]


class Agent(NamedTuple):
    """A host: the resources in its kernel, and its record of each transaction (None: never heard of it)."""

    kernel: Kernel
    records: tuple[Record | None, ...]

    def has(self, resource: str) -> str:
        return has(self.kernel, resource)

    def state(self, number: int) -> str:
        record = self.records[number]
        return "" if record is None else record.state

    def with_record(self, number: int, record: Record | None) -> Agent:
        return Agent(self.kernel, (*self.records[:number], record, *self.records[number + 1 :]))


def has(kernel: Kernel, resource: str) -> str:
    """Return what there is of a resource; ABSENT if nothing is."""
    return next((value for name, value in kernel if name == resource), ABSENT)


def put(kernel: Kernel, resource: str, value: str) -> Kernel:
    """Return a kernel in which a resource is so."""
    others = frozenset(each for each in kernel if each[0] != resource)
    return others | {(resource, value)} if value else others


def plan(kernel: Kernel, operations: Iterable[Operation]) -> tuple[Change, ...] | None:
    """Return what operations would change, one after the other; None if one is refused."""
    changes = []
    for operation in operations:
        before = has(kernel, operation.resource)
        if before not in operation.allowed or not _can_be_within(kernel, operation):
            return None
        changes.append(Change(operation, before))
        kernel = put(kernel, operation.resource, operation.wanted)
    return tuple(changes)


def _can_be_within(kernel: Kernel, operation: Operation) -> bool:
    """A destination needs its virtual server."""
    return operation.inert or not operation.within or operation.wanted == ABSENT or bool(has(kernel, operation.within))


def conflicts(agent: Agent, changes: Sequence[Change], rules: Rules, owner: int | None = None) -> bool:
    """Whether another transaction holds a lock on what the changes claim: shared claims do not conflict."""
    if not rules.locks:
        return False
    mine = _claims(changes, rules)
    return any(
        resource in mine and (exclusive or mine[resource])
        for number, record in enumerate(agent.records)
        if record is not None and record.locking and number != owner
        for resource, exclusive in _claims(record.changes, rules).items()
    )


def _claims(changes: Sequence[Change], rules: Rules) -> dict[str, bool]:
    """Return the resources that are claimed, and whether alone: what is made, edited or removed; others are shared."""
    claims: dict[str, bool] = {}
    for change in changes:
        operation = change.operation
        is_destination = operation.within and not operation.inert
        if is_destination:
            claims.setdefault(operation.within, False)
        if is_destination and operation.wanted == change.before == ABSENT and not rules.absent_is_locked:
            continue
        claims[operation.resource] = claims.get(operation.resource, False) or change.made
    return claims


# The messages of transactions. Each returns the agent afterwards; the same agent if it refuses, or has done it already.


def prepare(agent: Agent, number: int, planned: tuple[Change, ...], rules: Rules) -> Agent:
    """Lock, record, and make what is inert, if the host is still as it was when that was planned."""
    if agent.records[number] is not None:
        return agent
    changes = plan(agent.kernel, [each.operation for each in planned])
    if changes is None or changes != planned or conflicts(agent, changes, rules):
        return agent
    kernel = agent.kernel
    for change in changes:
        if change.operation.inert or not rules.reserves_only:
            kernel = put(kernel, change.operation.resource, change.operation.wanted)
    snapshot = frozenset[tuple[str, str]]() if rules.undo_compares else agent.kernel
    return agent.with_record(number, Record(PREPARED, changes, True, snapshot))._replace(kernel=kernel)


def ready(agent: Agent, number: int) -> Agent:
    """Give up the right to undo alone."""
    record = agent.records[number]
    if record is None or record.state != PREPARED:
        return agent
    return agent.with_record(number, record._replace(state=READY))


def commit(agent: Agent, number: int) -> Agent:
    """Record the decision; what was reserved is made by `complete`."""
    record = agent.records[number]
    if record is None or record.decided:
        return agent
    reserved = any(not change.operation.inert for change in record.changes)
    after = record._replace(state=COMMITTED, settled=False) if reserved else Record(COMMITTED)
    return agent.with_record(number, after)


def abort(agent: Agent, number: int, rules: Rules) -> Agent:
    """Take back what was made; one that is not known leaves a tombstone.

    One step here: an abort that is recorded and not yet carried out keeps its locks, so to all others it looks as if
    it had not begun.
    """
    record = agent.records[number]
    if record is not None and record.decided:
        return agent
    kernel = agent.kernel if record is None else _undone(agent.kernel, record, rules)
    return agent.with_record(number, Record(ABORTED) if rules.tombstones else None)._replace(kernel=kernel)


def _undone(kernel: Kernel, record: Record, rules: Rules) -> Kernel:
    if not rules.undo_compares:
        return record.snapshot
    for change in reversed(record.changes):
        operation = change.operation
        was_made = change.made and (operation.inert or not rules.reserves_only)
        if was_made and has(kernel, operation.resource) == operation.wanted:
            kernel = _with(kernel, operation.resource, change.before, rules)
    return kernel


def _with(kernel: Kernel, resource: str, value: str, rules: Rules) -> Kernel:
    """Return a kernel in which a resource is so; a VIP that is not counted goes with the first holder."""
    if value == ABSENT and resource.startswith("VIP") and not rules.holders_are_counted:
        return frozenset(each for each in kernel if not each[0].startswith("VIP"))
    return put(kernel, resource, value)


def complete(agent: Agent, number: int) -> Agent:
    """Make what was reserved, of a transaction that is committed."""
    record = agent.records[number]
    if record is None or record.settled:
        return agent
    reserved = [change.operation for change in record.changes if not change.operation.inert]
    kernel = agent.kernel
    if plan(kernel, reserved) is None:  # refused: it stays to be done
        return agent
    for operation in reserved:
        kernel = put(kernel, operation.resource, operation.wanted)
    return agent.with_record(number, Record(COMMITTED))._replace(kernel=kernel)


def may_abort_alone(agent: Agent, number: int, name: str, authority: str, rules: Rules) -> bool:
    """The authority may when the lease ends, and a real server that is not READY; another director has to ask."""
    record = agent.records[number]
    if record is None or record.frozen:
        return False
    if record.state == READY:
        return not rules.ready_does_not_expire
    return record.state == PREPARED and (is_real_server(name) or name == authority or not rules.other_director_asks)


def change(agent: Agent, operation: Operation, rules: Rules) -> Agent | None:
    """Change one resource outside any transaction; None if that is refused, for a lock too."""
    changes = plan(agent.kernel, [operation])
    if changes is None or conflicts(agent, changes, rules):
        return None
    if not changes[0].made:
        return agent
    return agent._replace(kernel=_with(agent.kernel, operation.resource, operation.wanted, rules))


def is_real_server(name: str) -> bool:
    """Real servers are called R1, R2; directors A (the authority) and B."""
    return name.startswith("R")
