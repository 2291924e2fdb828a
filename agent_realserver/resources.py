"""Everything that a real server can change: hands each operation to the noun that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from agent_common.changes import Reverted
from agent_common.drift import ArpInterface, Resource
from agent_common.errors import InvalidInputError, Reason, RefusedError
from agent_common.held_vip import HeldVips
from agent_common.operation import Change, Operation
from agent_realserver.silence import Silence


class RealServerResources:
    """VIPs on lo and the ARP sysctls of a real server."""

    def __init__(self, vips: HeldVips, silence: Silence) -> None:
        self._vips = vips
        self._silence = silence

    def plan(self, operation: Operation, earlier: Sequence[Change]) -> Change:
        """Say what an operation would change."""
        match operation.WhichOneof("operation"):
            case "create_vip":
                return self._vips.plan_create(operation.create_vip)
            case "delete_vip":
                return self._vips.plan_delete(operation.delete_vip)
            case "silence_arp":
                return self._silence.plan_hold(operation.silence_arp)
            case "restore_arp":
                return self._silence.plan_give_up(operation.restore_arp)
            case None:
                raise InvalidInputError("operation", "operation: must be set")
            case other:
                raise RefusedError(f"a real server does not {other.replace('_', ' ')}", Reason.NOT_SUPPORTED)

    def plan_repair(self, resource: Resource) -> Change:
        """Say what would bring a resource back to what was committed."""
        match resource:
            case IPv4Address() | IPv6Address() as address:
                return self._vips.plan_restore(address, asked=True)
            case ArpInterface():
                return self._silence.plan_repair()
            case _:
                raise RefusedError(f"a real server has no {resource}", Reason.NOT_SUPPORTED)

    def repair(self, change: Change) -> None:
        """Bring a resource back, and read it back."""
        if change.WhichOneof("resource") == "vip":
            self._vips.restore(change.vip)
        else:
            self.write(change)

    def withdraw(self, change: Change) -> None:
        """Nothing: no other host notices a VIP on lo."""

    def write(self, change: Change) -> None:
        """Make the change, and read it back."""
        match change.WhichOneof("resource"):
            case "vip":
                change.actions.extend(self._vips.write(change.vip))
            case "arp":
                change.actions.extend(self._silence.write(change.arp))
            case other:
                raise AssertionError(f"no change of a real server: {other}")

    def revert(self, change: Change) -> Reverted:
        """Take back what of the change still stands."""
        match change.WhichOneof("resource"):
            case "vip":
                return self._vips.revert(change.vip)
            case "arp":
                return self._silence.revert(change.arp)
            case other:
                raise AssertionError(f"no change of a real server: {other}")
