"""Holds the ARP sysctls of a real server: originals on disk before the first write, put back with the last need."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from lvsagent.v1 import arp_pb2, operation_pb2

from agent_common.address import LOOPBACK, Addresses, Device
from agent_common.changes import Outcome, Reverted
from agent_common.errors import NotFoundError, Reason, RefusedError
from agent_common.operation import Change
from agent_common.state import State
from agent_common.vip import check_name
from agent_common.vip_change import SysctlChanges
from agent_realserver.arp import (
    ArpChange,
    ArpName,
    ArpSysctls,
    ArpValues,
    InterfaceSilence,
    answering,
    needed_changes,
    read_values,
    with_changes,
)

_SYSCTL = "arp_sysctl"
_HOLD = "arp_hold"
_VIP = "vip"


class Silence:
    """The ARP sysctls of this host, for its VIPs and for operators who ask for them without one."""

    def __init__(self, sysctls: ArpSysctls, addresses: Addresses, state: State) -> None:
        self._sysctls = sysctls
        self._addresses = addresses
        self._state = state

    def arp_interfaces(self, devices: Sequence[Device] | None = None) -> list[str]:
        """Return the interfaces that do ARP; of devices, if somebody has just read them."""
        known = set(self._sysctls.interfaces())
        devices = self._addresses.devices() if devices is None else devices
        return [device.name for device in devices if device.does_arp and device.name in known]

    def values(self) -> ArpValues:
        """Return the sysctls of "all", lo and every interface that does ARP."""
        return read_values(self._sysctls, self.arp_interfaces())

    def originals(self) -> dict[str, int]:
        """Return what will be put back, by INTERFACE/NAME."""
        return {name: int(body["original"]) for name, body in self._state.list(_SYSCTL).items()}

    def operators(self) -> list[str]:
        """Return the operators who hold the sysctls."""
        return sorted(self._state.list(_HOLD))

    def loud(self, devices: Sequence[Device] | None = None) -> list[InterfaceSilence]:
        """Return the interfaces that would answer for a VIP; of devices, if somebody has just read them."""
        interfaces = self.arp_interfaces(devices)
        return answering(read_values(self._sysctls, interfaces), interfaces)

    def plan(self) -> list[operation_pb2.SysctlChange]:
        """Return what must be written; raises RefusedError (ARP_NOT_SILENT) if an interface would still answer."""
        values = self.values()
        changes = needed_changes(values)
        loud = answering(with_changes(values, changes), self.arp_interfaces())
        if loud:
            raise RefusedError(
                "cannot silence this host: " + "; ".join(each.problem for each in loud),
                Reason.ARP_NOT_SILENT,
                interface=loud[0].interface,
            )
        return [_pack(change) for change in changes]

    def silence(self, changes: SysctlChanges) -> None:
        """Write the sysctls and judge the result; raises RefusedError (ARP_NOT_SILENT)."""
        with self._state.transaction():
            for change in changes:
                name = f"{change.interface}/{change.name}"
                record = self._state.get(_SYSCTL, name)
                original = record["original"] if record else change.before
                self._state.put(_SYSCTL, name, {"original": original, "written": change.after})
        for change in changes:
            self._sysctls.write(change.interface, ArpName(change.name), change.after)
        loud = self.loud()
        if loud:
            raise RefusedError("; ".join(each.problem for each in loud), Reason.ARP_NOT_SILENT)

    def release(self) -> list[str]:
        """Put back the originals if nothing needs the silence any more; return what was done, or why it stays."""
        records = self._state.list(_SYSCTL)
        if not records or self.is_needed():
            return []
        foreign = self._foreign_addresses()
        if foreign:
            return [f"ARP sysctls stay: {', '.join(foreign)} would be answered for, and this agent did not add it"]
        return [self._put_back(name, body["original"], body["written"]) for name, body in reversed(records.items())]

    def plan_hold(self, request: arp_pb2.SilenceArpRequest) -> Change:
        """Plan to silence the host for an operator."""
        operator = check_name("operator", request.operator)
        held = self.operators()
        return _change(held, sorted({*held, operator}), self.plan())

    def plan_repair(self) -> Change:
        """Plan to be silent again, if something here needs that."""
        held = self.operators()
        return _change(held, held, self.plan() if self.is_needed() else [])

    def plan_give_up(self, request: arp_pb2.RestoreArpRequest) -> Change:
        """Plan to give up an operator's hold."""
        operator = check_name("operator", request.operator)
        held = self.operators()
        if operator not in held and not request.allow_missing:
            raise NotFoundError(f"{operator} does not hold the ARP sysctls", Reason.VIP_NOT_FOUND)
        return _change(held, [each for each in held if each != operator], [])

    def write(self, change: operation_pb2.ArpChange) -> list[str]:
        """Take or give up a hold; return what was put back."""
        newcomers = set(change.after) - set(change.before)
        for operator in newcomers:
            self._state.put(_HOLD, operator, {})
        if newcomers or change.sysctls:
            self.silence(change.sysctls)
        return self._give_up(set(change.before) - set(change.after))

    def revert(self, change: operation_pb2.ArpChange) -> Reverted:
        """Give up a hold that was taken, or take back one that was given up."""
        lost = set(change.before) - set(change.after)
        if lost:
            for operator in lost:
                self._state.put(_HOLD, operator, {})
            self.silence(self.plan())
            return Reverted(outcome=Outcome.REVERTED, details=("silenced ARP again",))
        done = self._give_up(set(change.after) - set(change.before))
        if change.sysctls and not done and self.is_needed():
            why = "ARP sysctls stay: a VIP or another operator needs them by now"
            return Reverted(outcome=Outcome.KEPT, details=(why,))
        return Reverted(outcome=Outcome.REVERTED, details=tuple(done))

    def _give_up(self, operators: set[str]) -> list[str]:
        for operator in operators:
            self._state.delete(_HOLD, operator)
        return self.release() if operators else []

    def is_needed(self) -> bool:
        """Whether an IPv4 VIP, or an operator, needs the silence."""
        vips = self._state.list(_VIP)
        held = [name for name, body in vips.items() if body["holders"] and ipaddress.ip_address(name).version == 4]
        return bool(held or self.operators())

    def _foreign_addresses(self) -> list[str]:
        """Return the IPv4 addresses on lo and tunnel devices that the host would answer for, were it not silent."""
        quiet = {device.name for device in self._addresses.devices() if device.is_tunnel} | {LOOPBACK}
        return [
            str(each.address)
            for each in self._addresses.addresses()
            if each.device in quiet and each.address.version == 4 and not each.address.is_loopback
        ]

    def _put_back(self, name: str, original: int, written: int) -> str:
        interface, _, sysctl = name.rpartition("/")
        value = self._sysctls.read(interface, ArpName(sysctl))
        if value == written:
            self._sysctls.write(interface, ArpName(sysctl), original)
        self._state.delete(_SYSCTL, name)
        if value not in (written, original):
            return f"{name} stays {value}: somebody changed it from {written}"
        return f"set {name} back to {original}"


def _pack(change: ArpChange) -> operation_pb2.SysctlChange:
    return operation_pb2.SysctlChange(interface=change.interface, name=change.name, before=change.old, after=change.new)


def _change(before: Sequence[str], after: Sequence[str], sysctls: Sequence[operation_pb2.SysctlChange]) -> Change:
    resource = operation_pb2.ArpChange(before=before, after=after, sysctls=sysctls)
    made = list(before) != list(after) or bool(sysctls)
    actions = [f"set {each.interface}/{each.name} from {each.before} to {each.after}" for each in sysctls]
    return Change(made=made, arp=resource, actions=actions)
