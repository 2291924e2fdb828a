"""Asking for an address: how long, what counts as an answer, and that nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import pytest

from agent_common.address import Placement
from agent_common.errors import Reason, RefusedError
from agent_common.fake_address import FakeAddresses
from agent_common.virtual_server import IpAddress
from agent_director.neighbour import Answer, DadOutcome, Finding, Question, wait_for_dad, who_has

T = TypeVar("T")

VIP = IPv4Address("192.168.0.200")
VIP6 = IPv6Address("2001:db8::200")
MAC = "02:00:00:00:00:66"
PENDING = Answer(finding=Finding.PENDING)
FREE = Answer(finding=Finding.FREE)
TAKEN = Answer(finding=Finding.TAKEN, mac=MAC)


async def run(function: Callable[[], T], /) -> T:
    """Stands for the worker thread; gives others their turn, as that does."""
    await asyncio.sleep(0)
    return function()


class ScriptedNeighbours:
    """A neighbour table that gives the answers of a list, the last one for ever."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = list(answers)
        self.open: set[Question] = set()
        self.asked = 0

    def start_question(self, address: IpAddress, device: str) -> Question:
        question = Question(address=address, device=device)
        self.open.add(question)
        return question

    def poll_answer(self, question: Question) -> Answer:
        assert question in self.open
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def end_question(self, question: Question) -> None:
        self.open.remove(question)

    def close(self) -> None:
        pass


class BrokenNeighbours(ScriptedNeighbours):
    """A neighbour table that cannot be read."""

    def poll_answer(self, question: Question) -> Answer:
        raise RefusedError("cannot read", Reason.KERNEL_REFUSED)


def ask(neighbours: ScriptedNeighbours, within: float = 4.0) -> str | None:
    return asyncio.run(who_has(neighbours, VIP, "eth0", run, within=within))


def test_the_mac_address_of_the_host_that_answers_is_returned() -> None:
    neighbours = ScriptedNeighbours([PENDING, TAKEN])
    assert ask(neighbours) == MAC
    assert neighbours.open == set()


def test_an_address_for_which_the_kernel_gave_up_is_free() -> None:
    neighbours = ScriptedNeighbours([PENDING, PENDING, FREE])
    assert ask(neighbours) is None
    assert (neighbours.open, neighbours.asked) == (set(), 3)


def test_silence_until_the_deadline_means_free() -> None:
    neighbours = ScriptedNeighbours([PENDING])
    assert ask(neighbours, within=0.15) is None
    assert neighbours.open == set()


def test_the_entry_goes_when_the_kernel_fails() -> None:
    neighbours = BrokenNeighbours([])
    with pytest.raises(RefusedError):
        ask(neighbours)
    assert neighbours.open == set()


@pytest.mark.parametrize("after", [0.0, 0.05])
def test_the_entry_goes_when_whoever_asks_is_cancelled(after: float) -> None:
    neighbours = ScriptedNeighbours([PENDING])

    async def cancel() -> None:
        asking = asyncio.create_task(who_has(neighbours, VIP, "eth0", run))
        await asyncio.sleep(after)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(cancel())
    assert neighbours.open == set()


def dad(addresses: FakeAddresses, device: str = "eth0") -> DadOutcome:
    waiting: Awaitable[DadOutcome] = wait_for_dad(addresses, VIP6, device, run, within=0.15)
    return asyncio.run(_awaited(waiting))


async def _awaited(waiting: Awaitable[T]) -> T:
    return await waiting


def test_duplicate_address_detection_ends_unique_taken_or_gone() -> None:
    unique, taken = FakeAddresses(), FakeAddresses(duplicates=[VIP6])
    for addresses in (unique, taken):
        addresses.add_vip(VIP6, "eth0", Placement.DIRECTOR)
    assert dad(unique) is DadOutcome.UNIQUE
    assert dad(taken) is DadOutcome.TAKEN
    assert dad(FakeAddresses()) is DadOutcome.GONE


def test_duplicate_address_detection_of_another_interface_does_not_count() -> None:
    addresses = FakeAddresses()
    addresses.add_vip(VIP6, "lo", Placement.REAL_SERVER)
    assert dad(addresses) is DadOutcome.GONE
