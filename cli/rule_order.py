"""The order in which ipvsadm lists virtual servers and destinations. No I/O."""

from __future__ import annotations

from functools import cmp_to_key

from agent_common.destination import DestinationKey
from agent_common.virtual_server import FirewallMark, IpAddress, VirtualServerKey


def _compare_servers(one: VirtualServerKey, other: VirtualServerKey) -> int:
    """Compare as ipvs_cmp_services of ipvsadm's libipvs does: by mark, family, protocol, address and port."""
    marks = [each.mark if isinstance(each, FirewallMark) else 0 for each in (one, other)]
    difference = _wrapped(*marks) or one.family - other.family
    if difference or isinstance(one, FirewallMark) or isinstance(other, FirewallMark):
        return difference
    return one.protocol - other.protocol or _compare_addresses(one.address, other.address) or one.port - other.port


def _compare_destinations(one: DestinationKey, other: DestinationKey) -> int:
    return _compare_addresses(one.address, other.address) or one.port - other.port


def _compare_addresses(one: IpAddress, other: IpAddress) -> int:
    """Compare 32 bits at a time."""
    words = zip(_words(one), _words(other), strict=False)
    return next((difference for each in words if (difference := _wrapped(*each))), 0)


def _words(address: IpAddress) -> list[int]:
    packed = address.packed
    return [int.from_bytes(packed[start : start + 4], "big") for start in range(0, len(packed), 4)]


def _wrapped(one: int, other: int) -> int:
    """Return a difference as C has it in an int: 192.0.2.1 comes before 10.0.0.1."""
    difference = (one - other) & 0xFFFFFFFF
    return difference - 2**32 if difference >= 2**31 else difference


server_order = cmp_to_key(_compare_servers)
destination_order = cmp_to_key(_compare_destinations)
