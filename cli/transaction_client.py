"""The calls of TransactionService to one agent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from lvsagent.v1 import transaction_pb2, transaction_service_pb2, transaction_service_pb2_grpc

from agent_common.operation import Operation
from agent_common.transaction import Following, Participant
from cli.client import AgentClient

Transaction = transaction_pb2.Transaction


class TransactionClient:
    """One agent, as a participant; every call raises LvsError and NoAnswerError as AgentClient.ask does."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._stub = transaction_service_pb2_grpc.TransactionServiceStub(client.channel)

    async def prepare(
        self,
        name: str,
        purpose: str,
        authority: str,
        participants: Iterable[Participant],
        operations: Sequence[Operation],
        lease: float,
        etag: str,
        following: Sequence[Following] = (),
        drain_timeout: float = 0.0,
    ) -> Transaction:
        """Have operations prepared, with times in seconds; whether the agent is there is asked before."""
        request = transaction_service_pb2.PrepareTransactionRequest(
            transaction_id=name,
            purpose=purpose,
            authority=authority,
            participants=participants,
            operations=operations,
            etag=etag,
            following=following,
        )
        request.lease.FromTimedelta(timedelta(seconds=lease))
        if following:
            request.drain_timeout.FromTimedelta(timedelta(seconds=drain_timeout))
        await self._client.make_sure()
        answer: transaction_service_pb2.PrepareTransactionResponse = await self._client.ask(
            self._stub.PrepareTransaction, request
        )
        return answer.transaction

    async def ready(self, name: str, fence: int) -> Transaction:
        """Have a real server give up its right to undo alone."""
        request = transaction_service_pb2.ReadyTransactionRequest(transaction_id=name, fence=fence)
        answer: transaction_service_pb2.ReadyTransactionResponse = await self._client.ask(
            self._stub.ReadyTransaction, request
        )
        return answer.transaction

    async def commit(self, name: str, fence: int) -> Transaction:
        """Have it decided at the authority, or carried out at another agent."""
        request = transaction_service_pb2.CommitTransactionRequest(transaction_id=name, fence=fence)
        answer: transaction_service_pb2.CommitTransactionResponse = await self._client.ask(
            self._stub.CommitTransaction, request
        )
        return answer.transaction

    async def abort(
        self, name: str, fence: int = 0, authority: str = "", participants: Iterable[Participant] = ()
    ) -> transaction_service_pb2.AbortTransactionResponse:
        """Have it undone; what stays and what was done is in the answer."""
        request = transaction_service_pb2.AbortTransactionRequest(
            transaction_id=name, fence=fence, authority=authority, participants=participants
        )
        answer: transaction_service_pb2.AbortTransactionResponse = await self._client.ask(
            self._stub.AbortTransaction, request
        )
        return answer

    async def resolve(self, name: str) -> Transaction:
        """Ask how it ended; an authority whose lease is over decides."""
        request = transaction_service_pb2.ResolveTransactionRequest(transaction_id=name)
        answer: transaction_service_pb2.ResolveTransactionResponse = await self._client.ask(
            self._stub.ResolveTransaction, request
        )
        return answer.transaction

    async def renew(self, name: str, fence: int, lease: float) -> Transaction:
        """Let the lease, in seconds, run again."""
        request = transaction_service_pb2.RenewTransactionRequest(transaction_id=name, fence=fence)
        request.lease.FromTimedelta(timedelta(seconds=lease))
        answer: transaction_service_pb2.RenewTransactionResponse = await self._client.ask(
            self._stub.RenewTransaction, request
        )
        return answer.transaction

    async def finish(self, name: str) -> Transaction:
        """Have the authority note that what follows its decision is done."""
        request = transaction_service_pb2.FinishTransactionRequest(transaction_id=name)
        answer: transaction_service_pb2.FinishTransactionResponse = await self._client.ask(
            self._stub.FinishTransaction, request
        )
        return answer.transaction

    async def get(self, name: str) -> Transaction:
        """Read one."""
        request = transaction_service_pb2.GetTransactionRequest(transaction_id=name)
        answer: transaction_service_pb2.GetTransactionResponse = await self._client.ask(
            self._stub.GetTransaction, request
        )
        return answer.transaction

    async def list_all(self, *, decided: bool = False) -> list[Transaction]:
        """Read those that are open, or all."""
        found: list[Transaction] = []
        request = transaction_service_pb2.ListTransactionsRequest(all=decided)
        while True:
            answer: transaction_service_pb2.ListTransactionsResponse = await self._client.ask(
                self._stub.ListTransactions, request
            )
            found.extend(answer.transactions)
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found
