"""agent_realserver.tunnel_devices.TunnelDevices in memory."""

from __future__ import annotations

from dataclasses import replace

from agent_common.errors import Reason, RefusedError
from agent_realserver.tunnel_devices import OWN_ADDRESS, DeviceName, GuePort, TunnelDevice


class FakeTunnelDevices:
    """A host's tunnel devices: those that it has from the start, and what all/rp_filter is; all can be set."""

    def __init__(self, devices: dict[str, TunnelDevice] | None = None, *, rp_filter: int = 0, fou: bool = True) -> None:
        self.devices = dict(devices or {})
        self.rp_filter = rp_filter
        self.ports: set[GuePort] = set()
        self.fou = fou

    def find(self, name: str) -> TunnelDevice | None:
        """Return a device."""
        return self.devices.get(name)

    def create(self, device: DeviceName) -> bool:
        """Add a device, down."""
        self.devices[device.name] = TunnelDevice(kind=device.kind, up=False, addresses=frozenset(), rp_filter=0)
        return True

    def delete(self, name: str) -> None:
        """Remove a device."""
        del self.devices[name]

    def set_up(self, name: str, *, up: bool) -> None:
        """Set a device up or down."""
        self.devices[name] = replace(self.devices[name], up=up)

    def add_own_address(self, name: str) -> None:
        """Add our address."""
        device = self.devices[name]
        self.devices[name] = replace(device, addresses=device.addresses | {OWN_ADDRESS})

    def remove_own_address(self, name: str) -> None:
        """Remove our address."""
        device = self.devices[name]
        self.devices[name] = replace(device, addresses=device.addresses - {OWN_ADDRESS})

    def rp_filter_of_all(self) -> int:
        """Return all/rp_filter."""
        return self.rp_filter

    def set_rp_filter(self, name: str, value: int) -> None:
        """Set a device's own rp_filter."""
        self.devices[name] = replace(self.devices[name], rp_filter=value)

    def gue_ports(self) -> set[GuePort]:
        """Return the open ports."""
        return set(self.ports)

    def open_gue_port(self, port: GuePort) -> None:
        """Open a port."""
        if not self.fou:
            message = f"cannot open UDP port {port.port} for gue: this kernel has no fou; load it (modprobe fou)"
            raise RefusedError(message, Reason.MODULE_MISSING)
        self.ports.add(port)

    def close_gue_port(self, port: GuePort) -> None:
        """Close a port."""
        self.ports.discard(port)
