"""TransactionService of both agents. Unpack, call, pack."""

from __future__ import annotations

from lvsagent.v1 import transaction_pb2, transaction_service_pb2, transaction_service_pb2_grpc

from agent_common.handlers import Context
from agent_common.host_service import peer_address
from agent_common.paging import page
from agent_common.transaction import Transaction
from agent_common.transactions import Transactions
from agent_common.wire_transaction import pack_transaction, unpack_proposal


class TransactionServicer(transaction_service_pb2_grpc.TransactionServiceServicer):
    """Serves TransactionService."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def PrepareTransaction(
        self, request: transaction_service_pb2.PrepareTransactionRequest, context: Context
    ) -> transaction_service_pb2.PrepareTransactionResponse:
        """Lock, record, and make what is inert; or only say what that would be."""
        peer = peer_address()
        for operation in request.operations if peer else ():
            if operation.WhichOneof("operation") == "create_vip":
                operation.create_vip.director_addresses.append(peer)  # the path of this very connection
        proposal = unpack_proposal(request)
        work = self._transactions.validate if request.validate_only else self._transactions.prepare
        transaction, tag = await work(proposal)
        return transaction_service_pb2.PrepareTransactionResponse(transaction=self._pack(transaction), etag=tag)

    async def ReadyTransaction(
        self, request: transaction_service_pb2.ReadyTransactionRequest, context: Context
    ) -> transaction_service_pb2.ReadyTransactionResponse:
        """Give up the right to undo alone."""
        transaction = await self._transactions.ready(request.transaction_id, request.fence)
        return transaction_service_pb2.ReadyTransactionResponse(transaction=self._pack(transaction))

    async def CommitTransaction(
        self, request: transaction_service_pb2.CommitTransactionRequest, context: Context
    ) -> transaction_service_pb2.CommitTransactionResponse:
        """Record the decision, and make what was reserved."""
        transaction = await self._transactions.commit(request.transaction_id, request.fence)
        return transaction_service_pb2.CommitTransactionResponse(transaction=self._pack(transaction))

    async def AbortTransaction(
        self, request: transaction_service_pb2.AbortTransactionRequest, context: Context
    ) -> transaction_service_pb2.AbortTransactionResponse:
        """Take back what was made."""
        transaction, details = await self._transactions.abort(
            request.transaction_id, request.fence, request.authority, tuple(request.participants)
        )
        return transaction_service_pb2.AbortTransactionResponse(transaction=self._pack(transaction), details=details)

    async def ResolveTransaction(
        self, request: transaction_service_pb2.ResolveTransactionRequest, context: Context
    ) -> transaction_service_pb2.ResolveTransactionResponse:
        """Say how it ended, or end it where nobody else may."""
        transaction = await self._transactions.resolve(request.transaction_id)
        return transaction_service_pb2.ResolveTransactionResponse(transaction=self._pack(transaction))

    async def RenewTransaction(
        self, request: transaction_service_pb2.RenewTransactionRequest, context: Context
    ) -> transaction_service_pb2.RenewTransactionResponse:
        """Let the lease run again."""
        lease = request.lease.ToTimedelta().total_seconds()
        transaction = await self._transactions.renew(request.transaction_id, request.fence, lease)
        return transaction_service_pb2.RenewTransactionResponse(transaction=self._pack(transaction))

    async def FinishTransaction(
        self, request: transaction_service_pb2.FinishTransactionRequest, context: Context
    ) -> transaction_service_pb2.FinishTransactionResponse:
        """Note that what follows is done."""
        transaction = await self._transactions.finish(request.transaction_id)
        return transaction_service_pb2.FinishTransactionResponse(transaction=self._pack(transaction))

    async def GetTransaction(
        self, request: transaction_service_pb2.GetTransactionRequest, context: Context
    ) -> transaction_service_pb2.GetTransactionResponse:
        """Read one."""
        transaction = await self._transactions.get(request.transaction_id)
        return transaction_service_pb2.GetTransactionResponse(transaction=self._pack(transaction))

    async def ListTransactions(
        self, request: transaction_service_pb2.ListTransactionsRequest, context: Context
    ) -> transaction_service_pb2.ListTransactionsResponse:
        """Read those that are open, or all."""
        found = await self._transactions.list_all(decided=request.all)
        part, token = page(found, request.page_size, request.page_token, lambda each: each.id)
        packed = [self._pack(each) for each in part]
        return transaction_service_pb2.ListTransactionsResponse(transactions=packed, next_page_token=token)

    async def ForgetTransaction(
        self, request: transaction_service_pb2.ForgetTransactionRequest, context: Context
    ) -> transaction_service_pb2.ForgetTransactionResponse:
        """Forget one that is over."""
        await self._transactions.forget(request.transaction_id)
        return transaction_service_pb2.ForgetTransactionResponse()

    def _pack(self, transaction: Transaction) -> transaction_pb2.Transaction:
        return pack_transaction(transaction, self._transactions.lease_left(transaction))
