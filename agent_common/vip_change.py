"""A held VIP before and after a change: what that adds, takes away, and says. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lvsagent.v1 import operation_pb2

from agent_common import wire_vip
from agent_common.address import InterfaceAddress
from agent_common.errors import Reason, RefusedError
from agent_common.operation import Change
from agent_common.vip import Holder, Vip, VipMode, VirtualServerHolder

SysctlChanges = Sequence[operation_pb2.SysctlChange]


def wants_route(vip: Vip) -> bool:
    """Only beside an address that this agent adds; a foreign one has the routes that its owner gave it."""
    return vip.made_address and vip.mode is VipMode.AGENT and vip.address.version == 4


def emptied(vip: Vip) -> Vip:
    """The VIP once nobody holds it: what this agent made is gone, what it found is there."""
    return replace(
        vip,
        present_device="" if vip.made_address else vip.present_device,
        route_present=vip.route_present and not vip.made_route,
        made_address=False,
        made_route=False,
        tunnels=(),
    )


def is_creation(before: Vip, after: Vip) -> bool:
    """Whether a hold is taken, or what was missing is put back; else one is given up."""
    return bool(after.holders) and len(after.holders) >= len(before.holders)


def adoptable(vip: Vip, found: InterfaceAddress | None) -> InterfaceAddress:
    """Return where a VIP was found; raises RefusedError unless it is there as this agent would have added it."""
    if found is None:
        raise RefusedError(
            f"cannot adopt VIP {vip.address}: it is not on this host", Reason.VIP_NOT_FOUND, vip=str(vip.address)
        )
    if (found.prefix_length, found.device) != (vip.prefix_length, vip.device):
        raise RefusedError(
            f"cannot adopt VIP {vip.address}: it is on {found.device} with prefix length {found.prefix_length}, "
            f"and lvs would have added {vip.address}/{vip.prefix_length} to {vip.device}",
            Reason.VIP_IS_HOST_ADDRESS,
            vip=str(vip.address),
        )
    return found


def disowned(before: Vip, after: Vip, current: Vip) -> Vip:
    """Return a VIP with what a change only adopted foreign again."""
    address = before.present and after.made_address and not before.made_address
    route = before.route_present and after.made_route and not before.made_route
    return replace(
        current,
        made_address=current.made_address and not address,
        made_route=current.made_route and not route,
    )


def adds(before: Vip, after: Vip) -> bool:
    """Whether the address or its route is there after a change, and was not before."""
    return (after.present and not before.present) or (after.route_present and not before.route_present)


def creation_lines(before: Vip, after: Vip, sysctls: SysctlChanges) -> list[str]:
    """Say, a line each, what a change adds."""
    lines = [f"set {each.interface}/{each.name} from {each.before} to {each.after}" for each in sysctls]
    if after.present and not before.present:
        lines.append(f"add {after.address}/{after.prefix_length} to {after.present_device}")
    if after.route_present and not before.route_present:
        lines.append(f"add route {after.address} scope host dev {after.present_device}")
    if after.holders != before.holders:
        lines.append(f"hold VIP {after.address} for {after.holders[-1].label}")
    return lines


def deletion_lines(before: Vip, after: Vip, holder: Holder) -> list[str]:
    """Say, a line each, what a change takes away."""
    lines = []
    if before.route_present and not after.route_present:
        lines.append(f"remove route {before.address} scope host dev {before.present_device or before.device}")
    if before.present and not after.present:
        lines.append(f"remove {before.address}/{before.prefix_length} from {before.present_device}")
    elif after.holders:
        lines.append(f"{_give_up(before, holder)}; it stays for {', '.join(each.label for each in after.holders)}")
    return lines or [_give_up(before, holder)]


def _give_up(vip: Vip, holder: Holder) -> str:
    return f"give up the hold of {holder.label} on VIP {vip.address}"


def vip_change(before: Vip, after: Vip, holder: Holder | None, actions: list[str], sysctls: SysctlChanges) -> Change:
    """Return a change as it is recorded and answered; one that restores is nobody's."""
    resource = operation_pb2.VipChange(
        before=wire_vip.pack_vip(before), after=wire_vip.pack_vip(after), sysctls=sysctls
    )
    if holder is not None:
        resource.holder.CopyFrom(wire_vip.pack_holder(holder))
    made = before != after or bool(sysctls)
    return Change(made=made, vip=resource, actions=actions if made else [])


def refuse_in_use(vip: Vip) -> None:
    """Raise RefusedError (IN_USE) if a virtual server holds the VIP: an operator who removes it wants it gone."""
    users = [each.label for each in vip.holders if isinstance(each, VirtualServerHolder)]
    if users:
        raise RefusedError(
            f"cannot remove VIP {vip.address}: {', '.join(users)} uses it; remove that first, or force",
            Reason.IN_USE,
            vip=str(vip.address),
        )
