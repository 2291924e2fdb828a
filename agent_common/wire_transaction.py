"""Transactions to protobuf messages, and proposals back."""

from __future__ import annotations

from datetime import timedelta

from lvsagent.v1 import transaction_pb2, transaction_service_pb2

from agent_common.proposal import Proposal
from agent_common.transaction import Transaction, TransactionState
from agent_common.wire import pack_enum, unpack_enum

STATES: dict[transaction_pb2.TransactionState.ValueType, TransactionState] = {
    transaction_pb2.TRANSACTION_STATE_PREPARED: TransactionState.PREPARED,
    transaction_pb2.TRANSACTION_STATE_READY: TransactionState.READY,
    transaction_pb2.TRANSACTION_STATE_COMMITTED: TransactionState.COMMITTED,
    transaction_pb2.TRANSACTION_STATE_ABORTED: TransactionState.ABORTED,
}


def pack_transaction(transaction: Transaction, lease_left: float) -> transaction_pb2.Transaction:
    """Write a transaction; lease_left is in seconds."""
    message = transaction_pb2.Transaction(
        id=transaction.id,
        state=pack_enum(STATES, transaction.state),
        purpose=transaction.purpose,
        authority=transaction.authority,
        participants=transaction.participants,
        fence=transaction.fence,
        operations=transaction.operations,
        changes=transaction.changes,
        settled=transaction.settled,
        problems=transaction.problems,
        following=() if transaction.state is TransactionState.ABORTED else transaction.following,
    )
    if not transaction.state.is_decided or transaction.is_followed:
        message.lease_left.FromTimedelta(timedelta(seconds=lease_left))
    message.create_time.FromNanoseconds(int(transaction.created * 1e9))
    return message


def unpack_state(message: transaction_pb2.Transaction) -> TransactionState:
    """Read where a transaction stands."""
    return unpack_enum(STATES, message.state, "state")


def unpack_proposal(request: transaction_service_pb2.PrepareTransactionRequest) -> Proposal:
    """Read what is to be prepared; it is not checked."""
    return Proposal(
        id=request.transaction_id,
        purpose=request.purpose,
        authority=request.authority,
        participants=tuple(request.participants),
        operations=tuple(request.operations),
        lease=request.lease.ToTimedelta().total_seconds(),
        etag=request.etag,
        following=tuple(request.following),
        drain_timeout=request.drain_timeout.ToTimedelta().total_seconds(),
    )
