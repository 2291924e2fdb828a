"""The transactions that a host remembers, on disk. Synchronous: for the worker thread."""

from __future__ import annotations

from collections.abc import Sequence

from agent_common import wire_vip
from agent_common.state import State
from agent_common.transaction import Transaction, TransactionState, from_body, to_body
from agent_common.vip import Holder
from agent_common.virtual_server import IpAddress

_KIND = "transaction"


class TransactionRecords:
    """The records of one host's transactions, and the number that the newest of them has: its fence.

    Raises RefusedError where the journal is corrupt: "not known" would be an answer, and others would go by it.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, name: str) -> Transaction | None:
        """Return one, or None if it is not remembered."""
        self._state.check_intact()
        body = self._state.get(_KIND, name)
        return None if body is None else from_body(name, body)

    def list_all(self) -> list[Transaction]:
        """Return all that are remembered."""
        self._state.check_intact()
        return [from_body(name, body) for name, body in self._state.list(_KIND).items()]

    def put(self, transaction: Transaction, forget: Sequence[str] = ()) -> None:
        """Write one, and forget others, in one step."""
        with self._state.transaction():
            if transaction.state is TransactionState.PREPARED:
                self._state.put("agent", "fence", {"last": transaction.fence})
            for name in forget:
                self._state.delete(_KIND, name)
            self._state.put(_KIND, transaction.id, to_body(transaction))

    def delete(self, name: str) -> None:
        """Forget one."""
        self._state.delete(_KIND, name)

    def last_fence(self) -> int:
        """Return the fence of the newest transaction that was ever prepared here, 0 if none was."""
        body = self._state.get("agent", "fence")
        return 0 if body is None else int(body["last"])

    def newer_claim(self, address: IpAddress, holder: Holder, fence: int) -> Transaction | None:
        """Return a transaction with a higher fence that wants a VIP held, and was not undone; None if there is none."""
        for transaction in self.list_all():
            if transaction.fence > fence and transaction.state is not TransactionState.ABORTED:
                for operation in transaction.operations:
                    wanted = operation.create_vip
                    if wanted.vip.address == str(address) and wire_vip.unpack_holder(wanted.holder) == holder:
                        return transaction
        return None
