"""Weaker parts for an agent, and kernels that lose what they are told: with these each promise must be seen to fail.

None of it is a switch of the agents: each is a class that a test hands over in the place of the one that is shipped.
"""

from __future__ import annotations

from collections.abc import Iterable

from lvsagent.v1 import destination_pb2, operation_pb2

from agent_common import wire, wire_vip
from agent_common.address import Placement
from agent_common.changes import Outcome, Reverted
from agent_common.destination import Destination
from agent_common.fake_address import FakeAddresses
from agent_common.fake_state import FakeState
from agent_common.held_vip import HeldVips
from agent_common.locks import Locks
from agent_common.operation import Change
from agent_common.transaction import Participant, Transaction, TransactionState
from agent_common.transactions import Transactions
from agent_common.vip import Vip
from agent_common.vip_change import SysctlChanges
from agent_common.virtual_server import IpAddress, VirtualServerKey
from agent_director.destination import Destinations
from agent_director.destination_change import destination_change, sides
from agent_director.fake_ipvs import FakeIpvs


class LosingAddresses(FakeAddresses):
    """A kernel that takes an address and has it no more: something else on that host removes it at once."""

    def add_vip(self, address: IpAddress, device: str, placement: Placement) -> None:
        """Nothing stays."""


class LosingIpvs(FakeIpvs):
    """A kernel that takes a destination and has it no more."""

    def add_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        """Nothing stays."""


class UnreadVips(HeldVips):
    """P1: does not read back what it has written."""

    def _add(self, before: Vip, after: Vip, sysctls: SysctlChanges) -> None:
        self._records.put(after)
        self._policy.silence(after.address, sysctls)
        if after.present and not before.present:
            self._addresses.add_vip(after.address, after.present_device, self._policy.placement)


class HastyTransactions(Transactions):
    """P2: every agent undoes by itself when the lease ends, decided elsewhere or not."""

    def _may_abort_alone(self, transaction: Transaction) -> bool:
        return not transaction.state.is_decided


class WaitingTransactions(Transactions):
    """P3: no lease ever ends."""

    def _is_over(self, transaction: Transaction) -> bool:
        return False


class SnapshotVips(HeldVips):
    """P4: undo writes back what was there before, whoever needs it by now."""

    def revert(self, change: operation_pb2.VipChange) -> Reverted:
        """Compare nothing."""
        self._take_away(self.get(wire_vip.unpack_vip(change.after).address), wire_vip.unpack_vip(change.before))
        return Reverted(outcome=Outcome.REVERTED)


class NoLocks(Locks):
    """P4, too: what a transaction has reserved anybody may change."""

    def check(self, changes: Iterable[Change], owner: str = "") -> None:
        """Nobody holds anything."""


class BlindDestinations(Destinations):
    """P5: does not look whether a destination is in place."""

    def plan_create(self, request: destination_pb2.CreateDestinationRequest, earlier: object) -> Change:
        """It is always new."""
        server = wire.unpack_key(request.virtual_server, "virtual_server")
        return destination_change(server, None, wire.unpack_destination(request.destination), "add it")


class UnsyncedState(FakeState):
    """P6: says that a record is on disk when it is only in memory (the real one: tests/power)."""

    def after_power_cut(self) -> FakeState:
        """Nothing was on disk."""
        return UnsyncedState()


class BoastfulDestinations(Destinations):
    """P7: says that it is done without reading the kernel back."""

    def write(self, change: operation_pb2.DestinationChange) -> None:
        """Believe it."""
        server, _, after = sides(change)
        assert after is not None
        self._record(server, after, after.key, new=True)
        self._ipvs.add_destination(server, after)


class ForgetfulTransactions(Transactions):
    """P2 and P3: does not remember that it was told to abort what it had never heard of."""

    async def _bury(self, name: str, authority: str = "", participants: tuple[Participant, ...] = ()) -> Transaction:
        return Transaction(
            id=name, state=TransactionState.ABORTED, purpose="", authority=authority, participants=participants
        )
