"""Puts a VIP of ours back as soon as the kernel says that it, or its route, is gone. No I/O of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from agent_common.errors import LvsError
from agent_common.restore import Restored
from agent_common.virtual_server import IpAddress
from agent_common.worker import to_its_end

PAUSE_SECONDS = 0.2
"""Between two looks: a storm of notifications, those of our own changes too, is one look."""

MAX_PAUSE_SECONDS = 10.0
"""Where somebody takes away what is put back again and again, or has the address: as often as the poll would."""

CALM_SECONDS = 60.0
"""After so long without anything to put back the next loss is mended at once again."""

LOCKED_SECONDS = 1.0
"""A VIP that a transaction has is looked at again so much later."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What the kernel has told since it was asked last; everything: more than could be heard."""

    addresses: frozenset[IpAddress] = frozenset()
    everything: bool = False

    def concerns(self, vips: Collection[IpAddress]) -> bool:
        """Whether one of the VIPs may be affected."""
        return self.everything or not self.addresses.isdisjoint(vips)


class Notices(Protocol):
    """The kernel's notifications of addresses and host routes that are gone."""

    async def next(self) -> Gone:
        """Wait until something is gone, and return all of it."""


class FakeNotices:
    """agent_common.vip_watch.Notices in memory."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[Gone] = asyncio.Queue()

    async def next(self) -> Gone:
        """Wait for what tell says."""
        return await self._told.get()

    def tell(self, *addresses: IpAddress, everything: bool = False) -> None:
        """Say that addresses are gone, or that more is than could be heard; only the fake has this."""
        self._told.put_nowait(Gone(addresses=frozenset(addresses), everything=everything))


class VipWatch:
    """Follows the notifications. put_back looks at the VIPs, mends them, and says what came of it.

    One reading of addresses and routes is enough, unlike one of an IPVS table: the kernel says when it is no snapshot.
    """

    def __init__(self, notices: Notices, put_back: Callable[[Gone], Awaitable[Restored]]) -> None:
        self._notices = notices
        self._put_back = put_back
        self._pause = PAUSE_SECONDS
        self._busy = float("-inf")

    async def follow(self) -> None:
        """Mend until cancelled."""
        left = False
        while True:
            try:
                gone = await asyncio.wait_for(self._notices.next(), LOCKED_SECONDS if left else None)
            except TimeoutError:
                gone = Gone(everything=True)
            left = await to_its_end(self._look(gone))  # a VIP that is back is announced, too
            await asyncio.sleep(self._pause)

    async def _look(self, gone: Gone) -> bool:
        """Mend; return whether something is left that a transaction has."""
        now = asyncio.get_running_loop().time()
        if now - self._busy > CALM_SECONDS:
            self._pause = PAUSE_SECONDS
        try:
            restored = await self._put_back(gone)
        except LvsError as error:
            _log.warning("cannot look for VIPs that are gone: %s", error.message)
            return False
        except Exception:
            _log.exception(
                "unexpected failure while looking for VIPs that are gone; the next is looked for all the same"
            )
            return False
        if restored.tried:
            self._busy = now
            self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
        return bool(restored.locked)
