"""Asks whether another host has an address already: by ARP or neighbour discovery, and by duplicate address detection.

The kernel does the asking (an entry in its neighbour table, as `ip neigh add A dev D use` makes it), which needs
CAP_NET_ADMIN only. No I/O here: calls go through a Protocol and through `run`, so that no thread is blocked for the
seconds that silence takes.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol

from agent_common.address import Addresses
from agent_common.virtual_server import IpAddress
from agent_common.worker import Run

QUESTION_SECONDS = 4.0
"""The kernel asks three times, a second apart, and then gives up (mcast_solicit, retrans_time_ms)."""

DAD_SECONDS = 5.0
"""Duplicate address detection takes up to one second of random delay and one of waiting."""

POLL_SECONDS = 0.1


class Finding(enum.Enum):
    """What the neighbour table says about a question."""

    PENDING = enum.auto()
    TAKEN = enum.auto()
    FREE = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that is being asked; static_mac is an operator's permanent entry, which comes back at the end."""

    address: IpAddress
    device: str
    static_mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The state of a question; mac is set if taken."""

    finding: Finding
    mac: str = ""


class Neighbours(Protocol):
    """The host's neighbour table. Synchronous; errors: RefusedError with NO_CAPABILITY, NO_DEVICE or KERNEL_REFUSED."""

    def start_question(self, address: IpAddress, device: str) -> Question:
        """Forget what is known of the address, and make the kernel ask for it."""
        ...

    def poll_answer(self, question: Question) -> Answer:
        """Return what has come of it so far; FREE on interfaces that ask nobody (IFF_NOARP)."""
        ...

    def end_question(self, question: Question) -> None:
        """Remove the entry; never fails because it is gone already."""
        ...

    def close(self) -> None:
        """Release the socket."""
        ...


class DadOutcome(enum.Enum):
    """How duplicate address detection ended."""

    UNIQUE = enum.auto()
    TAKEN = enum.auto()
    """Another host has the address; it stays on the interface, unusable, until it is removed."""
    UNDECIDED = enum.auto()
    """Still tentative after DAD_SECONDS: the link is down."""
    GONE = enum.auto()
    """Somebody removed the address meanwhile."""


async def who_has(
    neighbours: Neighbours, address: IpAddress, device: str, run: Run, *, within: float = QUESTION_SECONDS
) -> str | None:
    """Return the MAC address of the host that has an address, or None if nobody answered within so many seconds."""
    deadline = asyncio.get_running_loop().time() + within
    started = asyncio.ensure_future(run(lambda: neighbours.start_question(address, device)))
    try:
        # Shielded: whoever cancels us must not make us forget an entry that the worker thread is about to add.
        question = await asyncio.shield(started)
        while True:
            answer = await run(lambda: neighbours.poll_answer(question))
            if answer.finding is Finding.TAKEN:
                return answer.mac
            if answer.finding is Finding.FREE or asyncio.get_running_loop().time() >= deadline:
                return None
            await asyncio.sleep(POLL_SECONDS)
    finally:
        asked = await started
        await run(lambda: neighbours.end_question(asked))


async def wait_for_dad(
    addresses: Addresses, address: IPv6Address, device: str, run: Run, *, within: float = DAD_SECONDS
) -> DadOutcome:
    """Wait until duplicate address detection of an address that was just added has ended, at most so many seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = [each for each in await run(addresses.addresses) if (each.address, each.device) == (address, device)]
        if not found:
            return DadOutcome.GONE
        if found[0].dadfailed:
            return DadOutcome.TAKEN
        if not found[0].tentative:
            return DadOutcome.UNIQUE
        if asyncio.get_running_loop().time() >= deadline:
            return DadOutcome.UNDECIDED
        await asyncio.sleep(POLL_SECONDS)
