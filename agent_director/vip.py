"""What a director asks of a VIP: the interface, the mode, and that no virtual server loses it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace

from lvsagent.v1 import vip_pb2

from agent_common import wire, wire_vip
from agent_common.address import LOOPBACK, Addresses, InterfaceAddress, Placement
from agent_common.errors import ConflictError, InvalidInputError, Reason, RefusedError
from agent_common.tunnel import TunnelEnd
from agent_common.vip import Holder, Vip, VipMode, VirtualServerHolder, is_held_for
from agent_common.vip_change import SysctlChanges
from agent_common.virtual_server import FirewallMark, IpAddress, ServiceAddress, VirtualServer, VirtualServerKey


class DirectorVips:
    """The policy of a director for HeldVips; it has no ARP sysctls to set.

    has_ours tells whether a virtual server, or a destination in it, was made by this agent; check_marked raises
    RefusedError for what a firewall mark with this VIP could cut off, by force or not.
    """

    placement = Placement.DIRECTOR

    def __init__(
        self,
        addresses: Addresses,
        virtual_servers: Callable[[], Sequence[VirtualServer]],
        has_ours: Callable[[VirtualServerKey], bool],
        check_marked: Callable[[FirewallMark, IpAddress, bool], None],
    ) -> None:
        self._addresses = addresses
        self._virtual_servers = virtual_servers
        self._has_ours = has_ours
        self._check_marked = check_marked

    def plan_new(self, request: vip_pb2.CreateVipRequest, current: Vip) -> Vip:
        """Choose mode and interface; raises RefusedError (VIP_MODE_DIFFERS) and InvalidInputError (no interface)."""
        if request.vip.tunnels:
            raise InvalidInputError("vip.tunnels", "vip.tunnels: a real server has them, not a director")
        asked = request.vip.mode
        mode = wire.unpack_enum(wire_vip.VIP_MODES, asked, "vip.mode") if asked else current.mode
        if current.holders and mode is not current.mode:
            raise RefusedError(
                f"VIP {current.address} is in use with mode {current.mode}, not {mode}; the mode belongs to the VIP",
                Reason.VIP_MODE_DIFFERS,
                vip=str(current.address),
            )
        if not request.adopt:
            self._refuse_shadowing(wire_vip.unpack_holder(request.holder), current, force=request.force)
        if mode is VipMode.EXTERNAL:
            return replace(current, mode=mode)
        self._refuse_duplicate(current)
        return replace(current, mode=mode, device=self._device(request.vip.device, current))

    def keeps_hold(self, request: vip_pb2.DeleteVipRequest, holder: Holder) -> str:
        """With keep_if_used a virtual server that is still there keeps its hold, unless all of it is foreign."""
        if not request.keep_if_used or not isinstance(holder, VirtualServerHolder):
            return ""
        there = any(server.key == holder.key for server in self._virtual_servers())
        return f"{holder.key} uses it" if there and self._has_ours(holder.key) else ""

    def plan_last(self, request: vip_pb2.DeleteVipRequest, current: Vip) -> str:
        """Refuse, or with keep_if_used explain, if a virtual server, a foreign one too, still needs the address."""
        users = [
            str(server.key)
            for server in self._virtual_servers()
            if isinstance(server.key, ServiceAddress) and server.key.address == current.address
        ]
        if not users or not current.made_address:
            return ""
        why = f"{', '.join(users)} uses it"
        if request.keep_if_used:
            return why
        raise RefusedError(
            f"cannot remove VIP {current.address}: {why}; remove that first, or force",
            Reason.IN_USE,
            vip=str(current.address),
        )

    def plan_silence(self, address: IpAddress) -> SysctlChanges:
        """Nothing: a director answers for its VIPs."""
        return ()

    def check_silent(self, address: IpAddress) -> None:
        """Nothing."""

    def silence(self, address: IpAddress, changes: SysctlChanges) -> None:
        """Nothing."""

    def tunnel_lines(self, vip: Vip) -> list[str]:
        """Nothing: a director's end of a tunnel is a destination."""
        return []

    def judge_tunnels(self, address: IpAddress, ends: tuple[TunnelEnd, ...]) -> tuple[TunnelEnd, ...]:
        """There are none."""
        return ends

    def open_tunnels(self, vip: Vip) -> None:
        """Nothing."""

    def release(self, address: IpAddress) -> list[str]:
        """Nothing."""
        return []

    def _refuse_shadowing(self, holder: Holder, current: Vip, *, force: bool) -> None:
        """A virtual server with an address was checked when it was added; only now is known what carries a mark."""
        key = holder.key if isinstance(holder, VirtualServerHolder) else None
        if isinstance(key, FirewallMark) and not is_held_for(
            key, current.holders
        ):  # by whichever director that was decided
            self._check_marked(key, current.address, force)

    def _refuse_duplicate(self, current: Vip) -> None:
        """Raise if the address is there and cannot be used: duplicate address detection found another, or goes on."""
        for each in self._addresses.addresses():
            if each.address != current.address or not each.tentative:
                continue
            if not each.dadfailed:
                raise ConflictError(
                    f"duplicate address detection of {each.address} on {each.device} has not ended; try again",
                    Reason.CHANGED_MEANWHILE,
                    vip=str(each.address),
                )
            raise RefusedError(
                f"VIP {each.address} is on {each.device}, but another host has it (duplicate address detection); "
                f"take it off there, then here: ip address del {each.address}/{each.prefix_length} dev {each.device}",
                Reason.VIP_TAKEN,
                vip=str(each.address),
            )

    def _device(self, asked: str, current: Vip) -> str:
        if current.present:
            return current.present_device
        if asked:
            if asked not in {device.name for device in self._addresses.devices()}:
                raise InvalidInputError("vip.device", f"vip.device: there is no interface {asked} on this director")
            return asked
        if current.device:
            return current.device
        found = {each.device for each in self._addresses.addresses() if _holds(each, current.address)}
        if len(found) == 1:
            return found.pop()
        which = f"{', '.join(sorted(found))} have" if found else "no interface of this director has"
        raise InvalidInputError(
            "vip.device", f"vip.device: {which} a subnet that holds {current.address}; name the interface"
        )


def _holds(each: InterfaceAddress, address: IpAddress) -> bool:
    network = ipaddress.ip_network(f"{each.address}/{each.prefix_length}", strict=False)
    return each.device != LOOPBACK and each.prefix_length < each.address.max_prefixlen and address in network
