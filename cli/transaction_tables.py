"""Transactions for people, and as JSON. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lvsagent.v1 import transaction_pb2

from agent_common.wire_transaction import unpack_state
from cli.tables import as_json
from cli.transactions import Known


def transaction_as_json(known: Known) -> dict[str, Any]:
    """Return a transaction, and which agent has it, as --output json prints it."""
    return {"role": known.agent.role.value, "host": known.agent.host, "transaction": as_json(known.transaction)}


def transaction_lines(found: Sequence[Known], *, whole: bool) -> Iterator[str]:
    """Return transactions as every agent has them; whole: with what each was asked for, and what stays to be done."""
    for name in dict.fromkeys(known.transaction.id for known in found):
        mine = [known for known in found if known.transaction.id == name]
        purpose = next((known.transaction.purpose for known in mine if known.transaction.purpose), "")
        yield f"{name}  {purpose}".rstrip()
        for known in mine:
            yield f"  {known.agent}: {_transaction_state(known.transaction)}"
            actions = [line for change in known.transaction.changes for line in change.actions]
            yield from (f"    {line}" for line in (*(actions if whole else ()), *known.transaction.problems))
            yield from (f"    to do: {each.agent.address}: {each.title}" for each in known.transaction.following)


def _transaction_state(transaction: transaction_pb2.Transaction) -> str:
    state = unpack_state(transaction)
    if not state.is_decided:
        left = transaction.lease_left.ToTimedelta().total_seconds()
        return f"{state}, its lease runs for {left:.0f} s" if left else f"{state}, its lease has ended"
    if transaction.settled and transaction.following:
        left = transaction.lease_left.ToTimedelta().total_seconds()
        return f"{state}, and not finished" + (f": connections may take {left:.0f} s more" if left else "")
    return str(state) if transaction.settled else f"{state}, and not yet done"
