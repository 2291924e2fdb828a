"""Holds a real server's ends of tunnels: what was made on disk before it is made, taken back with the last VIP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from agent_common.destination import TunnelType
from agent_common.errors import Reason, RefusedError
from agent_common.state import Body, State
from agent_common.tunnel import TunnelEnd
from agent_common.vip_record import VipRecords
from agent_common.virtual_server import Family, IpAddress, family_of
from agent_realserver.tunnel_devices import (
    LOOSE,
    OWN_ADDRESS,
    DeviceName,
    GuePort,
    TunnelDevice,
    TunnelDevices,
    device_for,
)

_DEVICE = "tunnel_device"
_PORT = "gue_port"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What VIPs need for tunnels: a device, and whether IPv4 comes out of it; a port of GUE."""

    device: DeviceName
    inner: Family
    port: GuePort | None

    @classmethod
    def of(cls, end: TunnelEnd, inner: Family) -> Need:
        """Return what one end needs for a VIP of a family."""
        port = GuePort(port=end.port, family=end.outer) if end.type is TunnelType.GUE else None
        return cls(device=device_for(end, inner), inner=inner, port=port)

    def is_for(self, device: TunnelDevice) -> bool:
        """Whether a device takes what the VIP needs."""
        return self.inner is Family.IPV6 or device.takes_any


class TunnelEnds:
    """The tunnel devices and ports of this host, for its VIPs.

    A device that is there is used as it is, and put back as it was; one that is not is made, and removed.
    """

    def __init__(self, devices: TunnelDevices, state: State) -> None:
        self._devices = devices
        self._state = state
        self._vips = VipRecords(state)

    def judge(self, vip: IpAddress, ends: Iterable[TunnelEnd]) -> tuple[TunnelEnd, ...]:
        """Return ends of a VIP with whether they are ready."""
        return tuple(replace(end, ready=not self.lines(vip, [end])) for end in ends)

    def lines(self, vip: IpAddress, ends: Iterable[TunnelEnd]) -> list[str]:
        """Say, a line each, what is missing, and would be done."""
        return list(dict.fromkeys(line for need in _needs(vip, ends) for line in self._lines(need)))

    def check(self, vip: IpAddress, ends: Iterable[TunnelEnd]) -> None:
        """Raise RefusedError (NOT_SUPPORTED) for ends that this host's devices cannot be."""
        for need in _needs(vip, ends):
            device = self._devices.find(need.device.name)
            if device is not None and not need.is_for(device):
                raise RefusedError(
                    f"{need.device.name} of this host takes IPv6 only, and VIP {vip} is IPv4: that needs another "
                    "device of kind ip6tnl (mode any), which lvs does not make; make it yourself and use --no-rs-agent",
                    Reason.NOT_SUPPORTED,
                    interface=need.device.name,
                )

    def open(self, vip: IpAddress, ends: Iterable[TunnelEnd]) -> None:
        """Make ends ready: device, source check, up, port; raises RefusedError if one is not ready afterwards."""
        needs = _needs(vip, ends)
        for need in needs:
            self._open_device(need)
            if need.port is not None and need.port not in self._devices.gue_ports():
                self._state.put(_PORT, _port_name(need.port), {})
                self._devices.open_gue_port(need.port)
        missing = [line for need in needs for line in self._lines(need)]
        if missing:
            message = (
                f"the tunnels of VIP {vip} are not ready: somebody changes them too; missing: {'; '.join(missing)}"
            )
            raise RefusedError(message, Reason.CHANGED_MEANWHILE, vip=str(vip))

    def release(self) -> list[str]:
        """Take back what no VIP needs any more; return what was done, or why it stays."""
        needs = list(self._needed())
        ports = {_port_name(need.port) for need in needs if need.port is not None}
        done = [line for name in self._state.list(_PORT) if name not in ports for line in self._close_port(name)]
        used = {need.device.name for need in needs}
        for name, body in self._state.list(_DEVICE).items():
            if name not in used:
                done.extend(self._put_back(name, body))
        return done

    def _needed(self) -> Iterator[Need]:
        for address in self._vips.addresses():
            record = self._vips.get(address)
            if record is not None and record.holders:
                yield from _needs(address, record.tunnels)

    def _lines(self, need: Need) -> Iterator[str]:
        name = need.device.name
        device = self._devices.find(name)
        if device is None:
            yield f"add tunnel device {name}"
        if need.inner is Family.IPV4:
            if not (device and device.addresses):
                yield f"add {OWN_ADDRESS}/32 to {name}"
            if self._is_strict(device):
                yield f"set {name}/rp_filter to {LOOSE}"
        if not (device and device.up):
            yield f"set {name} up"
        if need.port is not None and need.port not in self._devices.gue_ports():
            yield f"open UDP port {need.port.port} for gue"

    def _is_strict(self, device: TunnelDevice | None) -> bool:
        """Whether what counts is 1: clients are not reached by the tunnel, and their packets would be dropped."""
        return max(self._devices.rp_filter_of_all(), device.rp_filter if device else 0) == 1

    def _open_device(self, need: Need) -> None:
        name = need.device.name
        if self._devices.find(name) is None:
            self._note(name, created=True)
            self._note(name, created=self._devices.create(need.device))
        device = self._find(name)
        if need.inner is Family.IPV4:
            if not device.addresses:
                self._note(name, addressed=True)
                self._devices.add_own_address(name)
            if self._is_strict(device):
                self._note(name, rp_filter=device.rp_filter)
                self._devices.set_rp_filter(name, LOOSE)
        if not device.up:
            self._note(name, raised=True)
            self._devices.set_up(name, up=True)

    def _find(self, name: str) -> TunnelDevice:
        device = self._devices.find(name)
        if device is None:
            raise RefusedError(f"tunnel device {name} is gone again", Reason.NO_DEVICE, interface=name)
        return device

    def _note(self, name: str, **made: bool | int) -> None:
        """Put on disk what is about to be made; an original that is known already stays."""
        record = self._state.get(_DEVICE, name) or {}
        if "rp_filter" in made and "rp_filter" in record:
            del made["rp_filter"]
        self._state.put(_DEVICE, name, {**record, **made})

    def _close_port(self, name: str) -> list[str]:
        port = _parse_port(name)
        done = []
        if port in self._devices.gue_ports():
            self._devices.close_gue_port(port)
            done.append(f"closed UDP port {port.port} of gue")
        self._state.delete(_PORT, name)
        return done

    def _put_back(self, name: str, body: Body) -> list[str]:
        device = self._devices.find(name)
        done: list[str] = []
        others = sorted(device.addresses - {OWN_ADDRESS}) if device else []
        if device is not None and others:
            text = ", ".join(map(str, others))
            done.append(f"tunnel device {name} stays: {text} is on it, and this agent did not add that")
        elif device is not None and body.get("created"):
            self._devices.delete(name)
            done.append(f"removed tunnel device {name}")
        elif device is not None:
            done.extend(self._restore(name, device, body))
        self._state.delete(_DEVICE, name)
        return done

    def _restore(self, name: str, device: TunnelDevice, body: Body) -> Iterator[str]:
        if body.get("addressed") and OWN_ADDRESS in device.addresses:
            self._devices.remove_own_address(name)
            yield f"removed {OWN_ADDRESS}/32 from {name}"
        original = body.get("rp_filter")
        if original is not None and device.rp_filter == LOOSE:
            self._devices.set_rp_filter(name, original)
            yield f"set {name}/rp_filter back to {original}"
        if body.get("raised") and device.up:
            self._devices.set_up(name, up=False)
            yield f"set {name} down"


def _needs(vip: IpAddress, ends: Iterable[TunnelEnd]) -> list[Need]:
    return [Need.of(end, family_of(vip)) for end in ends]


def _port_name(port: GuePort) -> str:
    return f"{'4' if port.family is Family.IPV4 else '6'}/{port.port}"


def _parse_port(name: str) -> GuePort:
    family, _, port = name.partition("/")
    return GuePort(port=int(port), family=Family.IPV4 if family == "4" else Family.IPV6)
