"""The host's addresses, routes and interfaces by rtnetlink (rtnetlink(7)), through pyroute2."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from agent_common import procfs_route
from agent_common.address import Device, InterfaceAddress, Placement, RouteTo
from agent_common.errors import LvsError, Reason, RefusedError
from agent_common.kernel_errors import kernel_refusal
from agent_common.virtual_server import IpAddress, family_of

# include/uapi/linux/rtnetlink.h
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_HOST = 254
RTN_UNICAST = 1
RTN_LOCAL = 2

# include/uapi/linux/if_addr.h
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40

# include/uapi/linux/if.h
IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_NOARP = 0x80

FOREVER = 0xFFFFFFFF
"""A lifetime without end (include/uapi/linux/if_addr.h)."""

DEVICE_TYPES = {1: "ether", 772: "loopback"}
"""ARPHRD_* (include/uapi/linux/if_arp.h) of interfaces that have no IFLA_INFO_KIND."""

UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.EAGAIN})
"""What RTM_GETROUTE answers without a route, or for an unreachable, prohibit, blackhole or throw one (fib_props)."""

DUMP_ATTEMPTS = 5


@contextmanager
def asking_kernel(doing: str) -> Iterator[None]:
    """Turn what the kernel refuses into the project's errors; doing completes "cannot …"."""
    try:
        yield
    except NetlinkError as error:
        raise kernel_refusal(error.code, doing) from error
    except OSError as error:
        raise kernel_refusal(error.errno or errno.EIO, doing) from error


def open_route_socket() -> IPRoute:
    """Open a netlink socket; it belongs to the calling thread and to the network namespace that the thread is in."""
    # groups=0: as a member of the default groups it would fill up with notifications that nobody reads, until ENOBUFS.
    with asking_kernel("open a netlink socket"):
        return IPRoute(groups=0)


def index_of(device: str, doing: str) -> int:
    """Return an interface's number."""
    try:
        return socket.if_nametoindex(device)
    except OSError as error:  # it carries no errno
        raise _no_device(device, doing) from error


def _no_device(device: str, doing: str) -> LvsError:
    message = f"cannot {doing}: there is no interface {device!r}; `ip link` shows those that are there"
    return RefusedError(message, Reason.NO_DEVICE, device=device)


class NetlinkAddresses:
    """agent_common.address.Addresses for the kernel; made, used and closed in one thread without an event loop."""

    def __init__(self) -> None:
        self._netlink = open_route_socket()

    def addresses(self) -> list[InterfaceAddress]:
        """Return every address of every interface, in the kernel's order."""
        names = dict(socket.if_nameindex())
        return [
            _interface_address(message, names[message["index"]])
            for message in self._dump("addr", "read addresses")
            if message["index"] in names  # made or gone between the two readings
        ]

    def add_vip(self, address: IpAddress, device: str, placement: Placement) -> None:
        """Add an address with the longest prefix; see the Protocol."""
        doing = f"add {address} to {device}"
        lifetimes: dict[str, int] = {}
        if address.version == 6 and placement is Placement.DIRECTOR:
            lifetimes = {"preferred_lft": 0, "valid_lft": FOREVER}
        # `ip address add` gives 127.0.0.0/8 alone the scope host, whichever the interface.
        scope = RT_SCOPE_HOST if address.version == 4 and address.is_loopback else RT_SCOPE_UNIVERSE
        index = index_of(device, doing)
        with asking_kernel(doing):
            self._netlink.addr(
                "add",
                index=index,
                family=int(family_of(address)),
                address=str(address),
                prefixlen=address.max_prefixlen,
                scope=scope,
                **lifetimes,
            )

    def remove_address(self, address: IpAddress, prefix_length: int, device: str) -> None:
        """Remove exactly this address."""
        doing = f"remove {address}/{prefix_length} from {device}"
        index = index_of(device, doing)
        with asking_kernel(doing):
            self._netlink.addr(
                "del", index=index, family=int(family_of(address)), address=str(address), prefixlen=prefix_length
            )

    def add_host_route(self, address: ipaddress.IPv4Address, device: str) -> None:
        """Add a route as `ip route add V scope host dev DEV` would."""
        self._change_host_route("add", address, device)

    def remove_host_route(self, address: ipaddress.IPv4Address, device: str) -> None:
        """Remove exactly the route that add_host_route adds."""
        self._change_host_route("del", address, device)

    def has_host_route(self, address: ipaddress.IPv4Address, device: str) -> bool:
        """Whether the main table has an on-link unicast route to this one address on this device."""
        index_of(device, f"look for the route to {address}")
        return procfs_route.has_host_route(address, device)

    def has_own_host_route(self, address: ipaddress.IPv4Address, device: str) -> bool:
        """Whether exactly the route is there that add_host_route adds."""
        index = index_of(device, f"look for the route to {address}")
        return any(
            (route["dst_len"], route.get_attr("RTA_DST"), route.get_attr("RTA_OIF")) == (32, str(address), index)
            and (route["table"], route["proto"], route["scope"]) == (RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_HOST)
            for route in self._routes(socket.AF_INET)
        )

    def route_to(self, address: IpAddress) -> RouteTo:
        """Return how the host reaches an address, as `ip route get` says."""
        try:
            answers = self._netlink.route(
                "get", family=int(family_of(address)), dst=str(address), dst_len=address.max_prefixlen
            )
        except NetlinkError as error:
            if error.code in UNREACHABLE:
                return RouteTo(reachable=False)
            raise kernel_refusal(error.code, f"look up the route to {address}") from error
        return _route_to(answers[0], dict(socket.if_nameindex()))

    def next_hops(self) -> frozenset[IpAddress]:
        """Return gateways of unicast routes of all tables, both families."""
        return frozenset(
            hop
            for family in (socket.AF_INET, socket.AF_INET6)
            for route in self._routes(family)
            for hop in _hops(route)
        )

    def devices(self) -> list[Device]:
        """Return every interface, lo too."""
        return [_device(message) for message in self._dump("link", "read interfaces")]

    def close(self) -> None:
        """Release the socket."""
        self._netlink.close()

    def _change_host_route(self, command: str, address: ipaddress.IPv4Address, device: str) -> None:
        doing = f"{'add' if command == 'add' else 'remove'} the host route to {address} on {device}"
        index = index_of(device, doing)
        with asking_kernel(doing):
            self._netlink.route(
                command,
                family=socket.AF_INET,
                dst=str(address),
                dst_len=32,
                oif=index,
                table=RT_TABLE_MAIN,
                proto=RTPROT_BOOT,
                scope=RT_SCOPE_HOST,
                type=RTN_UNICAST,
            )

    def _routes(self, family: int) -> Iterable[Any]:
        return self._dump("route", "read routes", family=family)

    def _dump(self, what: str, doing: str, **request: int) -> tuple[Any, ...]:
        """Read a whole table, again if it changed meanwhile."""
        for _ in range(DUMP_ATTEMPTS):
            with asking_kernel(doing):
                try:
                    return tuple(getattr(self._netlink, what)("dump", **request))
                except NetlinkDumpInterrupted:
                    continue
        raise RefusedError(f"cannot {doing}: they keep changing; try again", Reason.KERNEL_REFUSED)


def _interface_address(message: Any, device: str) -> InterfaceAddress:
    # IFA_LOCAL is our own address, IFA_ADDRESS the other end's on a point-to-point link; IPv6 often has no IFA_LOCAL.
    address = ipaddress.ip_address(message.get("local") or message.get("address"))
    flags = message.get_attr("IFA_FLAGS") or 0
    cache = message.get_attr("IFA_CACHEINFO")
    preferred = cache["ifa_preferred"] if cache else FOREVER
    return InterfaceAddress(
        address=address,
        prefix_length=message["prefixlen"],
        device=device,
        scope=message["scope"],
        label=message.get_attr("IFA_LABEL") or "",
        tentative=bool(flags & IFA_F_TENTATIVE),
        dadfailed=bool(flags & IFA_F_DADFAILED),
        preferred_lifetime=None if preferred == FOREVER else preferred,
    )


def _route_to(answer: Any, names: Mapping[int, str]) -> RouteTo:
    if answer["type"] not in (RTN_UNICAST, RTN_LOCAL):
        return RouteTo(reachable=False)
    source, metrics = answer.get_attr("RTA_PREFSRC"), answer.get_attr("RTA_METRICS")
    return RouteTo(
        reachable=True,
        local=answer["type"] == RTN_LOCAL,
        gateway=next(_hops(answer), None),
        device=names.get(answer.get_attr("RTA_OIF"), ""),
        source=ipaddress.ip_address(source) if source else None,
        mtu=int((metrics.get_attr("RTAX_MTU") if metrics else None) or 0),
    )


def _hops(route: Any) -> Iterator[IpAddress]:
    """Gateways of a route: its own, by another family (via), and those of its parts (multipath)."""
    for part in (route, *(route.get_attr("RTA_MULTIPATH") or ())):
        gateway, via = part.get_attr("RTA_GATEWAY"), part.get_attr("RTA_VIA")
        if gateway:
            yield ipaddress.ip_address(gateway)
        if via:
            yield ipaddress.ip_address(via["addr"])


def _device(message: Any) -> Device:
    flags = message["flags"]
    information = message.get_attr("IFLA_LINKINFO")
    kind = information.get_attr("IFLA_INFO_KIND") if information else None
    return Device(
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind or DEVICE_TYPES.get(message["ifi_type"], str(message["ifi_type"])),
        does_arp=not flags & (IFF_NOARP | IFF_LOOPBACK),
        up=bool(flags & IFF_UP),
        mtu=message.get_attr("IFLA_MTU") or 0,
    )
