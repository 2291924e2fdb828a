"""agent_common.address.Addresses in memory: what the kernel would answer, for tests of what decides."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from agent_common.address import LOOPBACK, Device, InterfaceAddress, Placement, RouteTo
from agent_common.errors import Reason, RefusedError
from agent_common.kernel_errors import kernel_refusal
from agent_common.virtual_server import IpAddress

Network = IPv4Network | IPv6Network

LOOPBACK_DEVICE = Device(name=LOOPBACK, kind="loopback", does_arp=False, up=True, mtu=65536)
ETHERNET_DEVICE = Device(name="eth0", kind="veth", does_arp=True, up=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A route through another host."""

    network: Network
    address: IpAddress
    device: str


class FakeAddresses:
    """A host in memory; duplicates names addresses that another host has, so that their detection fails."""

    def __init__(
        self,
        addresses: Iterable[InterfaceAddress] = (),
        devices: Iterable[Device] = (LOOPBACK_DEVICE, ETHERNET_DEVICE),
        gateways: Iterable[Gateway] = (),
        duplicates: Iterable[IpAddress] = (),
    ) -> None:
        self._addresses = list(addresses)
        self._devices = {device.name: device for device in devices}
        self._gateways = list(gateways)
        self._duplicates = frozenset(duplicates)
        self._host_routes: set[tuple[IPv4Address, str]] = set()

    def addresses(self) -> list[InterfaceAddress]:
        """Return every address."""
        return list(self._addresses)

    def add_vip(self, address: IpAddress, device: str, placement: Placement) -> None:
        """Add an address; detection of duplicates ends at once."""
        doing = f"add {address} to {device}"
        self._check_device(device, doing)
        length = address.max_prefixlen
        for each in self._addresses:
            # One IPv6 address cannot stand on an interface twice; an IPv4 one can, with another prefix length.
            same = (each.address, each.device) == (address, device)
            if same and (address.version == 6 or each.prefix_length == length):
                raise kernel_refusal(errno.EEXIST, doing)
        taken = address.version == 6 and device != LOOPBACK and address in self._duplicates
        deprecated = address.version == 6 and placement is Placement.DIRECTOR
        self._addresses.append(
            InterfaceAddress(
                address=address,
                prefix_length=length,
                device=device,
                label=device if address.version == 4 else "",
                tentative=taken,
                dadfailed=taken,
                preferred_lifetime=0 if deprecated else None,
            )
        )

    def put(self, address: InterfaceAddress) -> None:
        """Add any address, as somebody with `ip address add` would; only the fake has this."""
        self._check_device(address.device, f"add {address.address} to {address.device}")
        self._addresses.append(address)

    def remove_address(self, address: IpAddress, prefix_length: int, device: str) -> None:
        """Remove exactly this address; the host route stays, as it does in the kernel."""
        doing = f"remove {address}/{prefix_length} from {device}"
        self._check_device(device, doing)
        for each in self._addresses:
            if (each.address, each.prefix_length, each.device) == (address, prefix_length, device):
                self._addresses.remove(each)
                return
        raise kernel_refusal(errno.EADDRNOTAVAIL, doing)

    def add_host_route(self, address: IPv4Address, device: str) -> None:
        """Add the route."""
        doing = f"add the host route to {address} on {device}"
        self._check_device(device, doing)
        # One destination has one route of a priority, on whichever interface.
        if any(address == destination for destination, _ in self._host_routes):
            raise kernel_refusal(errno.EEXIST, doing)
        self._host_routes.add((address, device))

    def remove_host_route(self, address: IPv4Address, device: str) -> None:
        """Remove the route."""
        doing = f"remove the host route to {address} on {device}"
        self._check_device(device, doing)
        if (address, device) not in self._host_routes:
            raise kernel_refusal(errno.ESRCH, doing)
        self._host_routes.remove((address, device))

    def has_host_route(self, address: IPv4Address, device: str) -> bool:
        """Whether the route is there."""
        self._check_device(device, f"look for the route to {address}")
        return (address, device) in self._host_routes

    def has_own_host_route(self, address: IPv4Address, device: str) -> bool:
        """Whether the route is there: the fake has only such ones."""
        return self.has_host_route(address, device)

    def route_to(self, address: IpAddress) -> RouteTo:
        """Return the route: the host's own addresses, then host routes, subnets and gateways by prefix length."""
        if any(each.address == address for each in self._addresses):
            return RouteTo(reachable=True, local=True, device=LOOPBACK, source=address)
        best = max(self._candidates(address), key=lambda candidate: candidate[0], default=None)
        return best[1] if best else RouteTo(reachable=False)

    def next_hops(self) -> frozenset[IpAddress]:
        """Return every gateway."""
        return frozenset(gateway.address for gateway in self._gateways)

    def devices(self) -> list[Device]:
        """Return every interface."""
        return list(self._devices.values())

    def close(self) -> None:
        """Nothing to release."""

    def _candidates(self, address: IpAddress) -> Iterable[tuple[int, RouteTo]]:
        for destination, device in self._host_routes:
            if destination == address:
                yield 32, RouteTo(reachable=True, device=device, source=self._source(address, device))
        for each in self._addresses:
            if each.device != LOOPBACK and address in _network(each):
                yield each.prefix_length, RouteTo(reachable=True, device=each.device, source=each.address)
        for gateway in self._gateways:
            if address in gateway.network:
                source = self._source(gateway.address, gateway.device)
                route = RouteTo(reachable=True, gateway=gateway.address, device=gateway.device, source=source)
                yield gateway.network.prefixlen, route

    def _source(self, address: IpAddress, device: str) -> IpAddress | None:
        own = [each for each in self._addresses if each.device == device and each.address.version == address.version]
        return next((each.address for each in own if address in _network(each)), own[0].address if own else None)

    def _check_device(self, device: str, doing: str) -> None:
        if device not in self._devices:
            raise RefusedError(f"cannot {doing}: there is no interface {device!r}", Reason.NO_DEVICE, device=device)


def _network(each: InterfaceAddress) -> Network:
    if isinstance(each.address, IPv4Address):
        return IPv4Network((each.address, each.prefix_length), strict=False)
    return IPv6Network((each.address, each.prefix_length), strict=False)
