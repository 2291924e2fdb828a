"""VIPs that are held: the address and route come with the first holder and go with the last (promise P4).

What differs between a director and a real server (the interface, what is checked, the ARP sysctls) is in a policy.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Protocol

from lvsagent.v1 import operation_pb2, vip_pb2

from agent_common import wire_vip
from agent_common.address import Addresses, Placement, find_address
from agent_common.changes import Outcome, Reverted
from agent_common.drift import Drift, DriftKind
from agent_common.errors import ConflictError, NotFoundError, Reason, RefusedError
from agent_common.operation import Change
from agent_common.state import State
from agent_common.tunnel import TunnelEnd, joined, made_ready, without
from agent_common.vip import Holder, OperatorHolder, Vip, VipMode, is_held_for
from agent_common.vip_change import (
    SysctlChanges,
    adds,
    adoptable,
    creation_lines,
    deletion_lines,
    disowned,
    emptied,
    is_creation,
    refuse_in_use,
    vip_change,
    wants_route,
)
from agent_common.vip_record import VipRecords
from agent_common.virtual_server import IpAddress, VirtualServerKey, parse_unicast


class VipPolicy(Protocol):
    """What a kind of host adds to a held VIP."""

    placement: Placement

    def plan_new(self, request: vip_pb2.CreateVipRequest, current: Vip) -> Vip:
        """Return the VIP with device and mode chosen; raises what forbids to have it here."""

    def keeps_hold(self, request: vip_pb2.DeleteVipRequest, holder: Holder) -> str:
        """Return why the hold itself must stay, or ""."""

    def plan_last(self, request: vip_pb2.DeleteVipRequest, current: Vip) -> str:
        """Return why the address must stay though its last holder goes, or ""; raises RefusedError to refuse."""

    def plan_silence(self, address: IpAddress) -> SysctlChanges:
        """Return the ARP sysctls that must be written before the address is added."""

    def check_silent(self, address: IpAddress) -> None:
        """Raise RefusedError (ARP_NOT_SILENT) if the host would answer for the address where it must not."""

    def silence(self, address: IpAddress, changes: SysctlChanges) -> None:
        """Write them, originals on disk first, and check that the host is silent."""

    def tunnel_lines(self, vip: Vip) -> list[str]:
        """Say, a line each, what is missing for the tunnels of a VIP; raises RefusedError for what cannot be had."""

    def judge_tunnels(self, address: IpAddress, ends: tuple[TunnelEnd, ...]) -> tuple[TunnelEnd, ...]:
        """Return the ends of tunnels with whether they are ready."""

    def open_tunnels(self, vip: Vip) -> None:
        """Make them ready, what is made on disk first."""

    def release(self, address: IpAddress) -> list[str]:
        """Put back sysctls and tunnel devices that no VIP needs any more; return what was done or stays."""


class HeldVips:
    """The VIPs of a host, who holds them, and what of them this agent made."""

    def __init__(self, addresses: Addresses, state: State, policy: VipPolicy) -> None:
        self._addresses = addresses
        self._records = VipRecords(state)
        self._policy = policy

    def get(self, address: IpAddress) -> Vip:
        """Return a VIP as it is now, held or not."""
        record = self._records.get(address)
        found = find_address(self._addresses.addresses(), address)
        vip = Vip(address=address, present_device=found.device if found else "")
        if record is None:
            return replace(vip, route_present=self._has_route(vip))
        vip = replace(vip, device=record.device, mode=record.mode, holders=record.holders)
        vip = replace(vip, tunnels=self._policy.judge_tunnels(address, record.tunnels))
        # One with another prefix length, or on another interface, is not the one that we added.
        ours = found is not None and (found.prefix_length, found.device) == (vip.prefix_length, vip.device)
        has_route = self._has_route(vip)
        return replace(
            vip,
            made_address=ours and record.made_address,
            route_present=has_route,
            made_route=has_route and record.made_route,
        )

    def get_with_holders(self, address: IpAddress) -> Vip:
        """Return a VIP to who decides by its holders; raises RefusedError where a corrupt journal cannot tell them."""
        self._records.check_intact()
        return self.get(address)

    def list_all(self) -> list[Vip]:
        """Return the VIPs that are held, in the order of their addresses."""
        return [self.get(address) for address in self._records.addresses()]

    def list_held_for(self, key: VirtualServerKey) -> list[Vip]:
        """Return the VIPs of one virtual server; raises RefusedError where a corrupt journal cannot tell them."""
        self._records.check_intact()
        return [self.get(address) for address in self.held_for(key)]

    def held_for(self, key: VirtualServerKey) -> list[IpAddress]:
        """Return the VIPs of one virtual server by the records alone: the kernel is not read."""
        records = ((address, self._records.get(address)) for address in self._records.addresses())
        return [address for address, record in records if record is not None and is_held_for(key, record.holders)]

    def held(self) -> list[IpAddress]:
        """Return the addresses of the VIPs that are held, in their order."""
        return self._records.addresses()

    def drift(self) -> list[Drift]:
        """Return the VIPs that are held and not there, or have lost their route."""
        found = []
        for vip in self.list_all():
            record = self._records.get(vip.address)
            if vip.mode is VipMode.AGENT and vip.holders and not vip.present:
                found.append(Drift(kind=DriftKind.MISSING, resource=vip.address))
            elif vip.made_address and record is not None and record.made_route and not vip.route_present:
                found.append(Drift(kind=DriftKind.MODIFIED, resource=vip.address, fields=("route",), detail="no route"))
            elif any(not end.ready for end in vip.tunnels):
                detail = f"the tunnel is not ready: {'; '.join(self._policy.tunnel_lines(vip))}"
                found.append(Drift(kind=DriftKind.MODIFIED, resource=vip.address, fields=("tunnels",), detail=detail))
        return found

    def made(self, address: IpAddress) -> bool:
        """Whether this agent added the address."""
        record = self._records.get(address)
        return record is not None and record.made_address

    def is_tentative(self, address: IpAddress) -> bool:
        """Whether the address is there, and nobody knows yet that no other host has it, or one has (dadfailed)."""
        found = find_address(self._addresses.addresses(), address)
        return found is not None and found.tentative

    def plan_restore(self, address: IpAddress, *, asked: bool = False) -> Change:
        """Plan to put back what is missing of a VIP of ours: silence, address, route. Nobody's hold changes.

        asked: somebody wants it back, though somebody else had added it. Raises NotFoundError if it has no record.
        """
        current = self.get(address)
        record = self._records.get(address)
        if record is None:
            raise NotFoundError(f"VIP {address} is not held on this host", Reason.VIP_NOT_FOUND, vip=str(address))
        wanted = current
        if current.mode is VipMode.AGENT:
            if (record.made_address or (asked and record.holders)) and not current.present:
                wanted = replace(current, present_device=current.device, made_address=True)
            lost = record.made_route or (wanted.made_address and not record.made_address and wants_route(wanted))
            if lost and wanted.made_address and not current.route_present:
                wanted = replace(wanted, route_present=True, made_route=True)
        wanted = replace(wanted, tunnels=made_ready(wanted.tunnels))
        sysctls = self._policy.plan_silence(address) if wanted.holders and wanted.present else ()
        lines = [*self._policy.tunnel_lines(wanted), *creation_lines(current, wanted, sysctls)]
        return vip_change(current, wanted, None, lines, sysctls)

    def restore(self, change: operation_pb2.VipChange) -> None:
        """Carry out what plan_restore has planned: the order is that of an addition."""
        self._add(wire_vip.unpack_vip(change.before), wire_vip.unpack_vip(change.after), change.sysctls)

    def withdraw(self, change: operation_pb2.VipChange) -> None:
        """Take off again what restore has added; it stays committed, for the next start."""
        self._take_off(wire_vip.unpack_vip(change.after), wire_vip.unpack_vip(change.before))

    def plan_create(self, request: vip_pb2.CreateVipRequest) -> Change:
        """Plan to add what is missing of the VIP, and the hold."""
        holder = wire_vip.unpack_holder(request.holder)
        current = self.get(parse_unicast(request.vip.address, "vip.address"))
        after = self._policy.plan_new(request, current)
        if request.adopt:
            return self._plan_adopt(current, after, holder)
        # Only now the interface is known: a route that somebody left there is theirs.
        current = replace(current, route_present=current.route_present or self._has_route(after))
        sysctls = list(self._policy.plan_silence(current.address))
        holders = after.holders if holder in after.holders else (*after.holders, holder)
        adds_address = after.mode is VipMode.AGENT and not current.present
        after = replace(
            after,
            holders=holders,
            made_address=adds_address or current.made_address,
            present_device=after.device if adds_address else current.present_device,
        )
        adds_route = wants_route(after) and not current.route_present
        after = replace(
            after,
            made_route=adds_route or current.made_route,
            route_present=adds_route or current.route_present,
        )
        actions = [*self._policy.tunnel_lines(after), *creation_lines(current, after, sysctls)]
        change = vip_change(current, after, holder, actions, sysctls)
        change.foreign = current.present and not current.made_address
        return change

    def _plan_adopt(self, current: Vip, after: Vip, holder: Holder) -> Change:
        """Plan to hold the VIP, and to count address and route as ours, where they are what we would have added."""
        current = replace(current, route_present=current.route_present or self._has_route(after))
        holders = after.holders if holder in after.holders else (*after.holders, holder)
        after = replace(after, holders=holders, route_present=current.route_present)
        actions = []
        if after.mode is VipMode.AGENT and not current.made_address:
            found = adoptable(after, find_address(self._addresses.addresses(), after.address))
            self._policy.check_silent(after.address)
            after = replace(after, made_address=True, present_device=found.device)
            actions.append(f"adopt {found.address}/{found.prefix_length} on {found.device}")
        if wants_route(after) and not current.made_route and self._is_our_route(after):
            after = replace(after, made_route=True)
            actions.append(f"adopt route {after.address} scope host dev {after.present_device}")
        if missing := self._policy.tunnel_lines(after):
            raise RefusedError(
                f"cannot adopt VIP {after.address}: its tunnel is not ready: {'; '.join(missing)}",
                Reason.NOT_SUPPORTED,
                vip=str(after.address),
            )
        actions.extend(creation_lines(current, after, ()))
        return vip_change(current, after, holder, actions, ())

    def _is_our_route(self, vip: Vip) -> bool:
        return isinstance(vip.address, ipaddress.IPv4Address) and self._addresses.has_own_host_route(
            vip.address, vip.present_device
        )

    def plan_delete(self, request: vip_pb2.DeleteVipRequest) -> Change:
        """Plan to give up a hold, and with the last one what this agent made."""
        holder = wire_vip.unpack_holder(request.holder)
        current = self.get(parse_unicast(request.address, "address"))
        if isinstance(holder, OperatorHolder) and not (request.force or request.keep_if_used):
            refuse_in_use(current)
        holders = () if request.force else tuple(each for each in current.holders if each != holder)
        if holders == current.holders and not (request.force and self._records.get(current.address)):
            if request.allow_missing:
                change = vip_change(current, current, holder, [], [])
                others = ", ".join(each.label for each in current.holders)
                if others:
                    change.warnings.append(f"VIP {current.address} stays: it is held for {others}")
                return change
            raise NotFoundError(
                f"{holder.label} does not hold VIP {current.address} on this host",
                Reason.VIP_NOT_FOUND,
                vip=str(current.address),
            )
        stays = self._policy.keeps_hold(request, holder)
        if stays:
            change = vip_change(current, current, holder, [], [])
            change.warnings.append(f"VIP {current.address} stays: {stays}")
            return change
        after = replace(current, holders=holders)
        if not holders:
            stays = "" if request.force else self._policy.plan_last(request, current)
            if not stays:
                after = emptied(after)
        actions = deletion_lines(current, after, holder)
        change = vip_change(current, after, holder, actions, [])
        if stays:
            change.warnings.append(f"VIP {current.address} stays: {stays}")
        elif not holders and current.present and not current.made_address:
            change.warnings.append(
                f"VIP {current.address} stays on {current.present_device}: this agent did not add it"
            )
        return change

    def write(self, change: operation_pb2.VipChange) -> list[str]:
        """Bring the host from before to after, and read it back; return what was done to the sysctls of a removal."""
        before, after = wire_vip.unpack_vip(change.before), wire_vip.unpack_vip(change.after)
        if is_creation(before, after):
            self._add(before, after, change.sysctls)
            return []
        self._take_away(before, after)
        return self._policy.release(after.address)

    def revert(self, change: operation_pb2.VipChange) -> Reverted:
        """Take back the hold, and what of address, route and sysctls the change made and nobody else needs by now."""
        before, after = wire_vip.unpack_vip(change.before), wire_vip.unpack_vip(change.after)
        if is_creation(before, after):
            return self._revert_creation(before, after, made_more=bool(change.sysctls) or adds(before, after))
        return self._revert_deletion(before, after)

    def _revert_creation(self, before: Vip, after: Vip, *, made_more: bool) -> Reverted:
        """Give up the hold; address, route and sysctls go with the last holder, whichever change brought them."""
        current = self.get(after.address)
        holders = tuple(each for each in current.holders if each not in after.holders or each in before.holders)
        done = [
            f"VIP {after.address} is no longer held for {each.label}" for each in current.holders if each not in holders
        ]
        if holders:
            kept = disowned(before, after, replace(current, holders=holders))
            if set(holders) <= set(before.holders):  # nobody else can have asked for the tunnels since
                kept = replace(kept, tunnels=without(kept.tunnels, without(after.tunnels, before.tunnels)))
            self._record(kept)
            done.extend(self._policy.release(kept.address))
            if made_more:
                why = f"VIP {after.address} stays: {', '.join(each.label for each in holders)} needs it by now"
                return Reverted(outcome=Outcome.KEPT, details=(why,))
            return Reverted(outcome=Outcome.REVERTED if done else Outcome.NOTHING, details=tuple(done))
        wanted = disowned(before, after, replace(current, holders=()))
        if before.holders or not before.made_address:  # else it had stayed for somebody, though nobody held it
            wanted = emptied(wanted)
        done.extend(self._take_away(current, wanted))
        done.extend(self._policy.release(wanted.address))
        return Reverted(outcome=Outcome.REVERTED if done else Outcome.NOTHING, details=tuple(done))

    def _revert_deletion(self, before: Vip, after: Vip) -> Reverted:
        """Take the hold again, and put back what the deletion removed, unless somebody else has by now."""
        current = self.get(before.address)
        wanted = current if current.holders else replace(current, device=before.device, mode=before.mode)
        wanted = replace(wanted, holders=tuple(dict.fromkeys((*before.holders, *current.holders))))
        if wanted.mode is VipMode.AGENT:
            if before.present and not after.present and not current.present:
                wanted = replace(wanted, present_device=before.present_device, made_address=True)
            if before.route_present and not after.route_present and wanted.made_address and not self._has_route(wanted):
                wanted = replace(wanted, route_present=True, made_route=True)
        wanted = replace(wanted, tunnels=made_ready(joined(current.tunnels, before.tunnels)))
        self._add(current, wanted, self._policy.plan_silence(before.address))
        return Reverted(outcome=Outcome.REVERTED, details=(f"put back VIP {before.address}",))

    def _add(self, before: Vip, after: Vip, sysctls: SysctlChanges) -> None:
        """Record, then sysctls, tunnels, then the address, then its route: the order of P1."""
        self._records.put(after)
        self._policy.silence(after.address, sysctls)
        self._policy.open_tunnels(after)
        if after.present and not before.present:
            self._addresses.add_vip(after.address, after.present_device, self._policy.placement)
        if after.route_present and not before.route_present and isinstance(after.address, ipaddress.IPv4Address):
            self._addresses.add_host_route(after.address, after.present_device)
        found = self.get(after.address)
        if found.present_device != after.present_device or found.route_present != after.route_present:
            raise ConflictError(
                f"VIP {after.address} is not as it was written: somebody changes it too", Reason.CHANGED_MEANWHILE
            )

    def _take_away(self, current: Vip, wanted: Vip) -> list[str]:
        """Route, address, record: the reverse of _add; the sysctls come after it."""
        done = self._take_off(current, wanted)
        self._record(wanted)
        return done

    def _record(self, vip: Vip) -> None:
        """Put on disk who holds it; of what is missing it stays known that this agent made it, and puts it back."""
        record = self._records.get(vip.address)
        if record is not None and vip.holders:
            vip = replace(
                vip,
                made_address=vip.made_address or (record.made_address and not vip.present),
                made_route=vip.made_route or (record.made_route and not vip.route_present),
            )
        self._records.put(vip)

    def _take_off(self, current: Vip, wanted: Vip) -> list[str]:
        done: list[str] = []
        device = current.present_device or current.device
        if current.route_present and not wanted.route_present and isinstance(current.address, ipaddress.IPv4Address):
            self._addresses.remove_host_route(current.address, device)
            done.append(f"removed route {current.address} scope host dev {device}")
        if current.present and not wanted.present:
            self._addresses.remove_address(current.address, current.prefix_length, device)
            done.append(f"removed {current.address}/{current.prefix_length} from {device}")
        return done

    def _has_route(self, vip: Vip) -> bool:
        device = vip.present_device or vip.device
        if not device or not isinstance(vip.address, ipaddress.IPv4Address):
            return False
        try:
            return self._addresses.has_host_route(vip.address, device)
        except RefusedError as error:
            if error.reason is Reason.NO_DEVICE:  # with the interface its routes are gone
                return False
            raise
