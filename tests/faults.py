"""Faults of a coordinator in this process: it dies at a message, or a message is lost, or comes twice."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from agent_common.errors import LvsError
from cli.client import AgentClient
from cli.errors import NoAnswerError
from cli.site import AgentName


class Died(BaseException):
    """The coordinator was killed."""


class Fault(enum.Enum):
    """What happens to one message."""

    KILLED_BEFORE = "the coordinator dies before it sends it"
    KILLED_AFTER = "the coordinator dies before it hears the answer"
    LOST = "it is lost"
    ANSWER_LOST = "its answer is lost"
    TWICE = "it arrives twice"
    LATE = "its agent hangs: it and all that follows it there arrive when the command has ended"
    HELD_BEFORE = "something else happens before it is sent"
    HELD_AFTER = "something else happens before its answer is heard"


async def _nothing() -> None:
    """What happens unless somebody says what."""


class Wire:
    """The messages of transactions, and of what follows them, on their way to agents; one of them meets a fault.

    sent are their names, without those that renew a lease; has_met tells whether the fault came about. While a message
    is held, `hold` happens. With dies_of_silence the coordinator dies with the first agent that does not answer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hold: Callable[[], Awaitable[None]] = _nothing
        self.dies_of_silence = False
        self.sent: list[str] = []
        self.has_met = False
        self.fault: tuple[int, Fault] | None = None
        """The number of a message, and what happens to it."""
        self._hanging: AgentName | None = None
        self._late: list[Callable[[], Awaitable[Any]]] = []
        ask = AgentClient.ask

        async def faulty(client: AgentClient, method: Any, request: Any, *, longer: float = 0) -> Any:
            name = type(request).__name__
            if "Transaction" not in name and not _changes(request):
                return await ask(client, method, request, longer=longer)
            is_counted = not name.startswith("Renew")  # those come by the clock
            if is_counted:
                self.sent.append(name.removesuffix("TransactionRequest"))
            return await self._pass(client, lambda: send(client, method, request), is_counted=is_counted)

        async def send(client: AgentClient, method: Any, request: Any) -> Any:
            try:
                return await ask(client, method, request)
            except NoAnswerError as error:
                if self.dies_of_silence:
                    raise Died from error
                raise

        monkeypatch.setattr(AgentClient, "ask", faulty)

    def meet(self, number: int, fault: Fault) -> None:
        """Have a fault happen to a message, counted from 0 and from now on."""
        self.sent.clear()
        self.has_met = False
        self.fault = (number, fault)

    async def arrive(self) -> None:
        """Have what is late arrive; nobody hears the answer."""
        self._hanging = None
        while self._late:
            with contextlib.suppress(LvsError, NoAnswerError):
                await self._late.pop(0)()

    async def _pass(self, client: AgentClient, send: Callable[[], Awaitable[Any]], *, is_counted: bool = True) -> Any:
        fault = None
        if self.fault and is_counted and len(self.sent) - 1 == self.fault[0]:
            fault = self.fault[1]
            self.has_met = True
            self._hanging = client.agent if fault is Fault.LATE else None
        if self.fault and client.agent == self._hanging:
            fault = Fault.LATE
        match fault:
            case Fault.KILLED_BEFORE:
                raise Died
            case Fault.LOST:
                raise NoAnswerError(str(client.agent), "the message is lost", sent=True)
            case Fault.LATE:
                self._late.append(send)
                raise NoAnswerError(str(client.agent), "the message is late", sent=True)
            case Fault.KILLED_AFTER:
                await send()
                raise Died
            case Fault.ANSWER_LOST:
                await send()
                raise NoAnswerError(str(client.agent), "the answer is lost", sent=True)
            case Fault.TWICE:
                await send()
            case Fault.HELD_BEFORE:
                await self.hold()
            case Fault.HELD_AFTER:
                answer = await send()
                await self.hold()
                return answer
        return await send()


class Gate:
    """Holds one message back, the first of its name at an agent of that name, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, agent: str) -> None:
        self.reached, self._opened = asyncio.Event(), asyncio.Event()
        ask = AgentClient.ask

        async def held(client: AgentClient, method: Any, request: Any, *, longer: float = 0) -> Any:
            found = type(request).__name__.startswith(name) and agent in str(client.agent)
            if found and not self.reached.is_set():
                self.reached.set()
                await self._opened.wait()
            return await ask(client, method, request, longer=longer)

        monkeypatch.setattr(AgentClient, "ask", held)

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


def _changes(request: Any) -> bool:
    """Whether a message has one resource changed."""
    fields = request.DESCRIPTOR.fields_by_name if isinstance(request, Message) else ()
    return "change_id" in fields and "validate_only" in fields and not request.validate_only
