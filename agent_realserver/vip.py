"""What a real server asks of a VIP: that it goes on lo, silenced, and cuts none of the host's own paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lvsagent.v1 import vip_pb2

from agent_common import wire_vip
from agent_common.address import LOOPBACK, Addresses, Placement
from agent_common.errors import ConflictError, InvalidInputError, Reason, RefusedError
from agent_common.sockets import Sockets
from agent_common.transaction import Transaction
from agent_common.tunnel import TunnelEnd, joined, made_ready
from agent_common.vip import Holder, Vip, VipMode, VirtualServerHolder
from agent_common.vip_change import SysctlChanges
from agent_common.virtual_server import IpAddress, VirtualServerKey, parse_unicast
from agent_realserver.silence import Silence
from agent_realserver.tunnel_ends import TunnelEnds


class LoopbackVips:
    """The policy of a real server for HeldVips.

    serves tells whether IPVS on this host itself serves a key; name_servers gives the resolver's addresses;
    newer_claim gives a transaction that wants a VIP held and has a higher fence than the one given.
    """

    placement = Placement.REAL_SERVER

    def __init__(
        self,
        silence: Silence,
        tunnel_ends: TunnelEnds,
        addresses: Addresses,
        sockets: Sockets,
        serves: Callable[[VirtualServerKey], bool],
        name_servers: Callable[[], frozenset[IpAddress]],
        newer_claim: Callable[[IpAddress, Holder, int], Transaction | None],
    ) -> None:
        self._silence = silence
        self._tunnel_ends = tunnel_ends
        self._addresses = addresses
        self._sockets = sockets
        self._serves = serves
        self._name_servers = name_servers
        self._newer_claim = newer_claim

    def plan_new(self, request: vip_pb2.CreateVipRequest, current: Vip) -> Vip:
        """Put it on lo; raises RefusedError for what DESIGN.md section 5 lists under preflight."""
        if request.vip.device not in ("", LOOPBACK):
            raise InvalidInputError("vip.device", "vip.device: a real server's VIP goes on lo")
        self._refuse_host_address(current)
        holder = wire_vip.unpack_holder(request.holder)
        if isinstance(holder, VirtualServerHolder) and self._serves(holder.key):
            raise RefusedError(
                f"IPVS on this real server serves {holder.key} itself: packets would circle; remove it there first",
                Reason.IPVS_ON_REAL_SERVER,
                virtual_server=str(holder.key),
            )
        if not current.present:
            self._refuse_cut(request, current.address)
        tunnels = made_ready(joined(current.tunnels, wire_vip.unpack_tunnels(request.vip.tunnels)))
        self._tunnel_ends.check(current.address, tunnels)
        return replace(current, device=LOOPBACK, mode=VipMode.AGENT, tunnels=tunnels)

    def keeps_hold(self, request: vip_pb2.DeleteVipRequest, holder: Holder) -> str:
        """A real server gives up a hold when it is told to, unless it was asked for again since that was decided.

        Raises ConflictError (LOCKED) while it is not decided whether that holds.
        """
        if not request.HasField("fence"):
            return ""
        claim = self._newer_claim(parse_unicast(request.address, "address"), holder, request.fence)
        if claim is None:
            return ""
        if not claim.state.is_decided:
            raise ConflictError(
                f"VIP {request.address} is wanted by transaction {claim.id}, which is not decided yet",
                Reason.LOCKED,
                transaction=claim.id,
                authority=claim.authority,
            )
        return f"transaction {claim.id} has asked for it since"

    def plan_last(self, request: vip_pb2.DeleteVipRequest, current: Vip) -> str:
        """Nothing keeps a VIP here but its holders."""
        return ""

    def plan_silence(self, address: IpAddress) -> SysctlChanges:
        """Return the sysctls that must be written before the address is added; IPv6 needs none (KERNEL.md)."""
        return self._silence.plan() if address.version == 4 else ()

    def check_silent(self, address: IpAddress) -> None:
        """Judge the sysctls as they are."""
        if address.version == 4 and (loud := self._silence.loud()):
            raise RefusedError(
                f"cannot adopt VIP {address}: " + "; ".join(each.problem for each in loud),
                Reason.ARP_NOT_SILENT,
                vip=str(address),
            )

    def silence(self, address: IpAddress, changes: SysctlChanges) -> None:
        """Write them and judge the result."""
        if address.version == 4:
            self._silence.silence(changes)

    def tunnel_lines(self, vip: Vip) -> list[str]:
        """Say what the tunnels of a VIP lack."""
        return self._tunnel_ends.lines(vip.address, vip.tunnels)

    def judge_tunnels(self, address: IpAddress, ends: tuple[TunnelEnd, ...]) -> tuple[TunnelEnd, ...]:
        """Look at them."""
        return self._tunnel_ends.judge(address, ends)

    def open_tunnels(self, vip: Vip) -> None:
        """Make them ready, and judge the result."""
        self._tunnel_ends.open(vip.address, vip.tunnels)

    def release(self, address: IpAddress) -> list[str]:
        """Put back tunnel devices, and the sysctls if neither a VIP nor an operator needs them any more."""
        done = self._tunnel_ends.release()
        return [*done, *(self._silence.release() if address.version == 4 else [])]

    def _refuse_host_address(self, current: Vip) -> None:
        fit = {LOOPBACK, *(device.name for device in self._addresses.devices() if device.is_tunnel)}
        for each in self._addresses.addresses():
            if each.address == current.address and each.device not in fit:
                raise RefusedError(
                    f"VIP {current.address} is this host's own address on {each.device}; "
                    "with dr or tun it cannot be, with nat it can",
                    Reason.VIP_IS_HOST_ADDRESS,
                    vip=str(current.address),
                    device=each.device,
                )

    def _refuse_cut(self, request: vip_pb2.CreateVipRequest, vip: IpAddress) -> None:
        """Raise RefusedError if the host itself talks to that address: from then on it would talk to itself."""
        paths = {
            "a director reaches this host from it": str(vip) in request.director_addresses,
            "it is the next hop of a route of this host": vip in self._addresses.next_hops(),
            "it is a name server of this host": vip in self._name_servers(),
        }
        for why, applies in paths.items():
            if applies:
                raise RefusedError(
                    f"cannot put VIP {vip} on lo: {why}, which would be cut; use another VIP, or nat",
                    Reason.VIP_CUTS_PATH,
                    vip=str(vip),
                )
        # One from the VIP itself was made on this host while it had the VIP, and has no other end that could be cut.
        connections = [each for each in self._sockets.established_to(vip) if each.local_address != vip]
        if connections and not request.force:
            raise RefusedError(
                f"this host itself has {len(connections)} connections open to VIP {vip}, which would be reset; "
                "close them, or use --force",
                Reason.VIP_IN_USE,
                vip=str(vip),
            )
