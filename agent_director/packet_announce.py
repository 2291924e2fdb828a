"""Tells the neighbours of a director that a VIP is here now: gratuitous ARP, unsolicited neighbour advertisement.

Neither the kernel nor `ip address add` announces an address; unannounced, it is sent to its last host until entries of
neighbours grow old. Frames leave through AF_PACKET (packet(7)), which needs CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from agent_common.errors import Reason, RefusedError
from agent_common.kernel_errors import NET_RAW, kernel_refusal
from agent_common.virtual_server import IpAddress
from agent_common.worker import Run

TIMES = 3
"""A frame may be lost; RFC 5227 (ANNOUNCE_NUM 2) and RFC 4861 (MAX_NEIGHBOR_ADVERTISEMENT 3) repeat it too."""

PAUSE_SECONDS = 1.0
"""RetransTimer of RFC 4861; ANNOUNCE_INTERVAL of RFC 5227 is 2 s."""

BROADCAST = bytes.fromhex("ffffffffffff")
ALL_NODES_MAC = bytes.fromhex("333300000001")
ALL_NODES = IPv6Address("ff02::1")

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
ARPHRD_ETHER = 1
ARP_REQUEST = 1
NEXT_HEADER_ICMPV6 = 58
HOP_LIMIT = 255
"""RFC 4861, 7.1.2: whatever came through a router is dropped."""
NEIGHBOR_ADVERTISEMENT = 136
OVERRIDE = 0x20000000
TARGET_LINK_LAYER_ADDRESS = 2


def announcement(address: IpAddress, mac: bytes) -> bytes:
    """Return the Ethernet frame that says: this address is at this MAC address (6 bytes)."""
    if isinstance(address, IPv4Address):
        return _gratuitous_arp(address, mac)
    return _unsolicited_advertisement(address, mac)


def _gratuitous_arp(address: IPv4Address, mac: bytes) -> bytes:
    """An ARP announcement: a request for one's own address.

    The request form, not the reply form: RFC 5227 (section 3) prefers it since more implementations heed it, and the
    kernel (arp_notify) and VRRP daemons send it. Linux takes either, at once (arp_is_garp in net/ipv4/arp.c).
    """
    ethernet = BROADCAST + mac + struct.pack("!H", ETHERTYPE_ARP)
    header = struct.pack("!HHBBH", ARPHRD_ETHER, 0x0800, 6, 4, ARP_REQUEST)
    return ethernet + header + mac + address.packed + bytes(6) + address.packed


def _unsolicited_advertisement(address: IPv6Address, mac: bytes) -> bytes:
    """A neighbour advertisement to all nodes (RFC 4861, 7.2.6), with the override flag, from the address itself."""
    option = struct.pack("!BB", TARGET_LINK_LAYER_ADDRESS, 1) + mac
    body = struct.pack("!I", OVERRIDE) + address.packed + option
    length = 4 + len(body)
    # The pseudo header of RFC 8200, 8.1.
    pseudo = address.packed + ALL_NODES.packed + struct.pack("!II", length, NEXT_HEADER_ICMPV6)
    unsummed = struct.pack("!BBH", NEIGHBOR_ADVERTISEMENT, 0, 0) + body
    icmp = struct.pack("!BBH", NEIGHBOR_ADVERTISEMENT, 0, internet_checksum(pseudo + unsummed)) + body
    ip = struct.pack("!IHBB", 6 << 28, length, NEXT_HEADER_ICMPV6, HOP_LIMIT) + address.packed + ALL_NODES.packed
    return ALL_NODES_MAC + mac + struct.pack("!H", ETHERTYPE_IPV6) + ip + icmp


def internet_checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071, 0 to 65535; an odd number of bytes is padded with zero."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def announce(address: IpAddress, device: str) -> None:
    """Send one announcement from an interface.

    RefusedError: NO_CAPABILITY (CAP_NET_RAW), NO_DEVICE, NOT_SUPPORTED (not an Ethernet interface), KERNEL_REFUSED.
    """
    doing = f"announce {address} on {device}"
    try:
        # Protocol 0: this socket receives nothing.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
            packets.bind((device, 0))
            _, _, _, hardware_type, mac = packets.getsockname()
            if hardware_type != ARPHRD_ETHER:
                message = f"cannot {doing}: it is not an Ethernet interface; put the VIP on one that is"
                raise RefusedError(message, Reason.NOT_SUPPORTED, device=device)
            packets.send(announcement(address, mac))
    except OSError as error:
        raise kernel_refusal(error.errno or errno.EIO, doing, capability=NET_RAW) from error


async def announce_thrice(
    address: IpAddress, device: str, run: Run, *, send: Callable[[IpAddress, str], None] = announce
) -> None:
    """Announce three times, a second apart; takes two seconds, and blocks the worker thread for none of them."""
    for turn in range(TIMES):
        if turn:
            await asyncio.sleep(PAUSE_SECONDS)
        await run(lambda: send(address, device))
