"""What one transaction may become, and why not: pure rules of agent_common/transactions.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent_common.errors import ConflictError, DiffersError, NotFoundError, Reason
from agent_common.operation import Change
from agent_common.proposal import Proposal
from agent_common.transaction import Transaction, TransactionState, is_inert


def change_name(transaction: Transaction) -> str:
    """Return the name of the change that a transaction makes; it is on record only while it is made."""
    return f"transaction {transaction.id} {transaction.fence}"


def check_same(known: Transaction, proposal: Proposal) -> Transaction:
    """Return a known transaction to whoever asks for it again; raises what forbids that."""
    if known.state is TransactionState.ABORTED:
        raise already_aborted(known)
    if (known.authority, known.operations) != (proposal.authority, proposal.operations):
        raise DiffersError(
            f"transaction {known.id} is known here, with other operations",
            Reason.TRANSACTION_DIFFERS,
            transaction=known.id,
        )
    return known


def unknown(name: str) -> NotFoundError:
    return NotFoundError(f"transaction {name} is not known here", Reason.TRANSACTION_NOT_FOUND, transaction=name)


def changed_meanwhile(proposal: Proposal, how: str = "") -> ConflictError:
    return ConflictError(
        f"this host has changed since the change was planned{how}", Reason.CHANGED_MEANWHILE, transaction=proposal.id
    )


def already_aborted(transaction: Transaction) -> ConflictError:
    return ConflictError(
        f"transaction {transaction.id} was aborted", Reason.TRANSACTION_ABORTED, transaction=transaction.id
    )


def check_fence(transaction: Transaction, fence: int) -> None:
    """Raise ConflictError for a message to an earlier transaction of the same name; 0 is not compared."""
    if fence and fence != transaction.fence:
        raise ConflictError(
            f"transaction {transaction.id} has fence {transaction.fence} here, not {fence}",
            Reason.STALE_FENCE,
            transaction=transaction.id,
        )


def merge(proposal: Proposal, planned: Sequence[Change], made: Sequence[Change]) -> tuple[Change, ...]:
    """Return the changes of a prepared transaction: what was made, and what is planned for the commit."""
    left = list(made)
    return tuple(
        left.pop(0) if is_inert(operation) else change
        for operation, change in zip(proposal.operations, planned, strict=True)
    )


def completed(transaction: Transaction, made: Mapping[int, Change]) -> Transaction:
    """Return a committed transaction once those of its operations that were due are made, by their places."""
    changes = tuple(made.get(place, change) for place, change in enumerate(transaction.changes))
    return replace(transaction, changes=changes, settled=True, problems=())
