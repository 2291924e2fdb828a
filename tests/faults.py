"""Faults of a coordinator in this process: it dies at a message, or a message is lost, or comes twice."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cli.client import AgentClient
from cli.errors import NoAnswerError


class Died(BaseException):
    """The coordinator was killed."""


class Fault(enum.Enum):
    """What happens to one message."""

    KILLED_BEFORE = "the coordinator dies before it sends it"
    KILLED_AFTER = "the coordinator dies before it hears the answer"
    LOST = "it is lost"
    ANSWER_LOST = "its answer is lost"
    TWICE = "it arrives twice"


class Wire:
    """The messages of transactions, and of what follows them, on their way to agents; one of them meets a fault."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self.fault: tuple[int, Fault] | None = None
        ask = AgentClient.ask

        async def faulty(client: AgentClient, method: Any, request: Any) -> Any:
            name = type(request).__name__
            if "Transaction" not in name and not _changes(request):
                return await ask(client, method, request)
            self.sent.append(name.removesuffix("TransactionRequest"))
            return await self._pass(client, lambda: ask(client, method, request))

        monkeypatch.setattr(AgentClient, "ask", faulty)

    async def _pass(self, client: AgentClient, send: Callable[[], Awaitable[Any]]) -> Any:
        fault = self.fault[1] if self.fault and len(self.sent) - 1 == self.fault[0] else None
        match fault:
            case Fault.KILLED_BEFORE:
                raise Died
            case Fault.LOST:
                raise NoAnswerError(str(client.agent), "the message is lost", sent=True)
            case Fault.KILLED_AFTER:
                await send()
                raise Died
            case Fault.ANSWER_LOST:
                await send()
                raise NoAnswerError(str(client.agent), "the answer is lost", sent=True)
            case Fault.TWICE:
                await send()
        return await send()


def _changes(request: Any) -> bool:
    """Whether a message has one resource changed."""
    return "change_id" in request.DESCRIPTOR.fields_by_name and not request.validate_only
