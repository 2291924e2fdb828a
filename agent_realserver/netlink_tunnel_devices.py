"""Tunnel devices by rtnetlink, their source check in /proc/sys, and GUE's ports by generic netlink (linux/fou.h)."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from agent_common.errors import DiffersError, Reason, RefusedError
from agent_common.generic_netlink import GenericNetlink, NetlinkError
from agent_common.kernel_errors import kernel_refusal
from agent_common.netlink_address import IFF_UP, RT_SCOPE_HOST, asking_kernel, index_of, open_route_socket
from agent_common.netlink_frames import CodecError, pack_attribute, walk
from agent_common.netlink_socket import NetlinkSocket
from agent_common.virtual_server import Family
from agent_realserver.tunnel_devices import OWN_ADDRESS, DeviceName, GuePort, TunnelDevice

CONF: Final = Path("/proc/sys/net/ipv4/conf")

FOU_GENL_NAME: Final = "fou"
FOU_CMD_ADD, FOU_CMD_DEL, FOU_CMD_GET = 1, 2, 3
FOU_ATTR_PORT, FOU_ATTR_AF, FOU_ATTR_TYPE = 1, 2, 4
FOU_ENCAP_GUE: Final = 2

_PORT: Final = struct.Struct("!H")
_BYTE: Final = struct.Struct("B")


class NetlinkTunnelDevices:
    """agent_realserver.tunnel_devices.TunnelDevices for the kernel; made, used and closed in one thread."""

    def __init__(self, conf: Path = CONF) -> None:
        self._route = open_route_socket()
        self._generic = GenericNetlink(NetlinkSocket())
        self._conf = conf

    def close(self) -> None:
        """Close the sockets."""
        self._route.close()
        self._generic.close()

    def find(self, name: str) -> TunnelDevice | None:
        """Return a device."""
        try:
            with asking_kernel(f"look for {name}"):
                message = self._route.link("get", ifname=name)[0]
        except RefusedError as error:
            if error.reason is Reason.NO_DEVICE:
                return None
            raise
        information = message.get_attr("IFLA_LINKINFO")
        kind = information.get_attr("IFLA_INFO_KIND") if information else ""
        with asking_kernel(f"read the addresses of {name}"):
            addresses = tuple(self._route.addr("dump", index=message["index"], family=socket.AF_INET))
        return TunnelDevice(
            kind=kind,
            up=bool(message["flags"] & IFF_UP),
            addresses=frozenset(_address(each) for each in addresses),
            rp_filter=self._read(name),
            takes_any=kind != "ip6tnl" or _ip6tnl_protocol(information) == 0,
        )

    def create(self, device: DeviceName) -> bool:
        """Add a device; the kernel loads its module, which adds one of that name in the first network namespace."""
        doing = f"add tunnel device {device.name}"
        try:
            with asking_kernel(doing):
                self._route.link("add", ifname=device.name, kind=device.kind)
        except DiffersError:
            return False
        except RefusedError as error:
            if error.metadata.get("errno") != "EOPNOTSUPP":
                raise
            message = f"cannot {doing}: this kernel has no module for tunnels of kind {device.kind}"
            raise RefusedError(message, Reason.MODULE_MISSING) from error
        return True

    def delete(self, name: str) -> None:
        """Remove a device."""
        index = index_of(name, f"remove {name}")
        with asking_kernel(f"remove {name}"):
            self._route.link("del", index=index)

    def set_up(self, name: str, *, up: bool) -> None:
        """Set a device up or down."""
        doing = f"set {name} {'up' if up else 'down'}"
        index = index_of(name, doing)
        with asking_kernel(doing):
            self._route.link("set", index=index, state="up" if up else "down")

    def add_own_address(self, name: str) -> None:
        """Add OWN_ADDRESS."""
        self._change_address("add", name)

    def remove_own_address(self, name: str) -> None:
        """Remove OWN_ADDRESS."""
        self._change_address("del", name)

    def rp_filter_of_all(self) -> int:
        """Return rp_filter of "all"."""
        return self._read("all")

    def set_rp_filter(self, name: str, value: int) -> None:
        """Set a device's own rp_filter, and read it back."""
        doing = f"set {name}/rp_filter to {value}"
        try:
            (self._conf / name / "rp_filter").write_text(f"{value}\n", encoding="ascii")
        except OSError as error:
            raise kernel_refusal(error.errno or errno.EIO, doing) from error
        found = self._read(name)
        if found != value:
            message = f"cannot {doing}: it reads {found} afterwards; something else sets it"
            raise RefusedError(message, Reason.KERNEL_REFUSED, interface=name)

    def gue_ports(self) -> set[GuePort]:
        """Return the ports at which GUE is unwrapped."""
        family = self._generic.family(FOU_GENL_NAME)
        if family is None:
            return set()
        try:
            messages = self._generic.dump(family, FOU_CMD_GET)
        except NetlinkError as error:
            raise kernel_refusal(error.number, "read the ports of gue") from error
        found = set()
        for data, start, end in messages:
            places = walk(data, start, end, {FOU_ATTR_PORT: 2, FOU_ATTR_AF: 1, FOU_ATTR_TYPE: 1})
            try:
                if _BYTE.unpack_from(data, places[FOU_ATTR_TYPE])[0] == FOU_ENCAP_GUE:
                    port = _PORT.unpack_from(data, places[FOU_ATTR_PORT])[0]
                    found.add(GuePort(port=port, family=Family(_BYTE.unpack_from(data, places[FOU_ATTR_AF])[0])))
            except (KeyError, ValueError) as error:
                raise CodecError(f"cannot read a port of gue: {error} is missing, or unknown") from error
        return found

    def open_gue_port(self, port: GuePort) -> None:
        """Open a port."""
        kind = pack_attribute(FOU_ATTR_TYPE, _BYTE.pack(FOU_ENCAP_GUE))
        self._change_port(FOU_CMD_ADD, port, kind, f"open UDP port {port.port} for gue")

    def close_gue_port(self, port: GuePort) -> None:
        """Close a port."""
        self._change_port(FOU_CMD_DEL, port, b"", f"close UDP port {port.port} of gue")

    def _change_port(self, command: int, port: GuePort, more: bytes, doing: str) -> None:
        family = self._generic.family(FOU_GENL_NAME)
        if family is None:
            message = f"cannot {doing}: this kernel has no fou, and does not load it by itself; type: modprobe fou"
            raise RefusedError(message, Reason.MODULE_MISSING)
        attributes = pack_attribute(FOU_ATTR_PORT, _PORT.pack(port.port))
        attributes += pack_attribute(FOU_ATTR_AF, _BYTE.pack(port.family)) + more
        try:
            self._generic.call(family, command, attributes)
        except NetlinkError as error:
            raise kernel_refusal(error.number, doing) from error

    def _change_address(self, command: str, name: str) -> None:
        doing = f"{'add' if command == 'add' else 'remove'} {OWN_ADDRESS} on {name}"
        index = index_of(name, doing)
        with asking_kernel(doing):
            self._route.addr(
                command,
                index=index,
                family=socket.AF_INET,
                address=str(OWN_ADDRESS),
                prefixlen=32,
                scope=RT_SCOPE_HOST,
            )

    def _read(self, name: str) -> int:
        try:
            return int((self._conf / name / "rp_filter").read_text(encoding="ascii"))
        except OSError as error:
            raise kernel_refusal(error.errno or errno.EIO, f"read {name}/rp_filter") from error


def _address(message: Any) -> IPv4Address:
    return IPv4Address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))


def _ip6tnl_protocol(information: Any) -> int:
    """Return IFLA_IP6TNL_PROTO of an ip6tnl: 0 takes whatever comes."""
    data = information.get_attr("IFLA_INFO_DATA") if information else None
    return int((data.get_attr("IFLA_IP6TNL_PROTO") if data else None) or 0)
