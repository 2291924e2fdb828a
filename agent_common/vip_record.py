"""What an agent keeps on disk of a VIP: how it is meant to be, who holds it, and what of it the agent made."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from agent_common.state import State
from agent_common.tunnel import TunnelEnd, parse_tunnel_end
from agent_common.vip import Holder, Vip, VipMode, parse_holder
from agent_common.virtual_server import IpAddress

_KIND = "vip"


@dataclass(frozen=True, slots=True, kw_only=True)
class VipRecord:
    """One VIP; device is where the agent added it or would."""

    device: str
    mode: VipMode
    holders: tuple[Holder, ...]
    made_address: bool
    made_route: bool
    tunnels: tuple[TunnelEnd, ...]


class VipRecords:
    """The records of a host's VIPs."""

    def __init__(self, state: State) -> None:
        self._state = state

    def check_intact(self) -> None:
        """Raise RefusedError (JOURNAL_CORRUPT) where records cannot be believed."""
        self._state.check_intact()

    def get(self, address: IpAddress) -> VipRecord | None:
        """Return the record of a VIP, or None if nothing is recorded."""
        body = self._state.get(_KIND, str(address))
        if body is None:
            return None
        return VipRecord(
            device=body["device"],
            mode=VipMode(body["mode"]),
            holders=tuple(parse_holder(holder) for holder in body["holders"]),
            made_address=body["made_address"],
            made_route=body["made_route"],
            tunnels=tuple(parse_tunnel_end(end) for end in body.get("tunnels", [])),
        )

    def addresses(self) -> list[IpAddress]:
        """Return the VIPs that have a record, in the order of their addresses."""
        found = [ipaddress.ip_address(name) for name in self._state.list(_KIND)]
        return sorted(found, key=lambda each: (each.version, each.packed))

    def put(self, vip: Vip) -> None:
        """Record a VIP; one that nobody holds and of which the agent made nothing needs no record."""
        if not vip.holders and not vip.made_address and not vip.made_route:
            self._state.delete(_KIND, str(vip.address))
            return
        body = {
            "device": vip.device,
            "mode": vip.mode.value,
            "holders": [str(holder) for holder in vip.holders],
            "made_address": vip.made_address,
            "made_route": vip.made_route,
            "tunnels": [str(end) for end in vip.tunnels],
        }
        self._state.put(_KIND, str(vip.address), body)
