"""Asks the other hosts on the wire before a VIP is added, and tells them afterwards."""

from __future__ import annotations

import asyncio
import ipaddress
import logging

from agent_common import wire_vip
from agent_common.address import Addresses
from agent_common.errors import ConflictError, LvsError, Reason, RefusedError
from agent_common.operation import Change
from agent_common.vip import Vip
from agent_common.virtual_server import IpAddress
from agent_common.worker import Run
from agent_director.neighbour import QUESTION_SECONDS, DadOutcome, Neighbours, wait_for_dad, who_has
from agent_director.packet_announce import announce, announce_thrice

BRIEF_SECONDS = 0.5

_log = logging.getLogger(__name__)


class VipNeighbours:
    """IPv4: an ARP question first. IPv6: duplicate address detection, which the address itself goes through."""

    def __init__(self, neighbours: Neighbours, addresses: Addresses, run: Run) -> None:
        self._neighbours = neighbours
        self._addresses = addresses
        self._run = run
        self._announcing: dict[IpAddress, asyncio.Task[None]] = {}

    def briefly(self) -> BriefNeighbours:
        """Return the same neighbours, asked once by ARP: for a VIP that was here a moment ago, and is missed."""
        return BriefNeighbours(self)

    async def ask(self, change: Change, seconds: float = QUESTION_SECONDS) -> None:
        """Raise RefusedError (VIP_TAKEN) if another host answers for an IPv4 address that the change would add."""
        vip = _added(change)
        if vip is None or vip.address.version != 4 or await self._run(lambda: self._is_here(vip.address)):
            return
        mac = await who_has(self._neighbours, vip.address, vip.present_device, self._run, within=seconds)
        if mac is not None:
            raise _taken(vip, f"the host with MAC address {mac}")

    async def confirm(self, change: Change) -> None:
        """Wait for the end of IPv6's duplicate address detection; what has gone is not announced any further."""
        gone = _removed(change)
        if gone is not None:
            self._stop_announcing(gone)
        vip = _added(change)
        if vip is not None and isinstance(vip.address, ipaddress.IPv6Address):
            await self._detect_duplicate(vip, vip.address)

    async def announce(self, change: Change) -> None:
        """Announce it in the background, three times."""
        vip = _added(change)
        if vip is None:
            return
        self._stop_announcing(vip)
        task = asyncio.ensure_future(self._announce(vip))
        self._announcing[vip.address] = task
        task.add_done_callback(lambda done: self._announcing.pop(vip.address, None) if done is task else None)

    async def _detect_duplicate(self, vip: Vip, address: ipaddress.IPv6Address) -> None:
        outcome = await wait_for_dad(self._addresses, address, vip.present_device, self._run)
        if outcome is DadOutcome.TAKEN:
            raise _taken(vip, "another host (duplicate address detection)")
        if outcome is DadOutcome.GONE:
            raise ConflictError(f"somebody removed VIP {address} while it was added", Reason.CHANGED_MEANWHILE)
        if outcome is DadOutcome.UNDECIDED:
            raise RefusedError(
                f"cannot add VIP {address}: duplicate address detection on {vip.present_device} does not end; "
                "is its link up?",
                Reason.KERNEL_REFUSED,
                vip=str(address),
            )

    async def _announce(self, vip: Vip) -> None:
        try:
            await announce_thrice(vip.address, vip.present_device, self._run, send=self._announce_if_there)
        except LvsError as error:
            # The VIP serves all the same; hosts with an old entry find it when that has run out.
            _log.warning("VIP %s was not announced: %s", vip.address, error.message)

    def _announce_if_there(self, address: IpAddress, device: str) -> None:
        """Send nothing for a VIP that was taken back, or removed by hand, meanwhile."""
        if any((each.address, each.device) == (address, device) for each in self._addresses.addresses()):
            announce(address, device)

    def _is_here(self, address: IpAddress) -> bool:
        """Whether this host has it by now: somebody put back what is to be taken back."""
        return any(each.address == address for each in self._addresses.addresses())

    def _stop_announcing(self, vip: Vip) -> None:
        task = self._announcing.pop(vip.address, None)
        if task is not None:
            task.cancel()


class BriefNeighbours:
    """VipNeighbours that wait for an answer to one ARP question, and not for two more."""

    def __init__(self, neighbours: VipNeighbours) -> None:
        self._neighbours = neighbours

    async def ask(self, change: Change) -> None:
        """Ask for less than a second; a host on link answers within milliseconds."""
        await self._neighbours.ask(change, BRIEF_SECONDS)

    async def confirm(self, change: Change) -> None:
        """See VipNeighbours."""
        await self._neighbours.confirm(change)

    async def announce(self, change: Change) -> None:
        """See VipNeighbours."""
        await self._neighbours.announce(change)


def _added(change: Change) -> Vip | None:
    """The VIP whose address the change adds, if it adds one."""
    before, after = _sides(change)
    return after if after is not None and after.present and not (before and before.present) else None


def _removed(change: Change) -> Vip | None:
    before, after = _sides(change)
    return before if before is not None and before.present and not (after and after.present) else None


def _sides(change: Change) -> tuple[Vip | None, Vip | None]:
    if change.WhichOneof("resource") != "vip":
        return None, None
    return wire_vip.unpack_vip(change.vip.before), wire_vip.unpack_vip(change.vip.after)


def _taken(vip: Vip, who: str) -> RefusedError:
    return RefusedError(
        f"cannot add VIP {vip.address}: {who} answers for it; take it off there first, or use another VIP",
        Reason.VIP_TAKEN,
        vip=str(vip.address),
    )
