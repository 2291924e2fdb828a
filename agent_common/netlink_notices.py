"""What the kernel tells of addresses and host routes that are gone, over rtnetlink (rtnetlink(7), multicast groups)."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator

from agent_common.kernel_errors import kernel_refusal
from agent_common.vip_watch import Gone
from agent_common.virtual_server import IpAddress

# include/uapi/linux/rtnetlink.h, if_addr.h
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTMGRP_IPV6_IFADDR = 0x100
RTM_DELADDR = 21
RTM_DELROUTE = 25
IFA_ADDRESS = 1
IFA_LOCAL = 2
RTA_DST = 1

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
BODY_SIZES = {RTM_DELADDR: 8, RTM_DELROUTE: 12}
"""struct ifaddrmsg and struct rtmsg; both begin with the family and a prefix length, a byte each."""

DATAGRAMS = 64
"""So many are read before others get their turn of the loop."""

ADDRESSES = 1000
"""So many are remembered one by one."""


class NetlinkNotices:
    """agent_common.vip_watch.Notices for the kernel; belongs to the event loop that it is made in.

    What the kernel had to drop, since nobody listened (ENOBUFS), counts as everything.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
            )
            self._socket.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR))
        except OSError as error:
            raise kernel_refusal(error.errno or errno.EIO, "listen to notifications of addresses") from error
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)
        self._told = asyncio.Event()
        self._addresses: set[IpAddress] = set()
        self._everything = False

    async def next(self) -> Gone:
        """Wait until something is gone, and return all of it."""
        await self._told.wait()
        gone = Gone(addresses=frozenset(self._addresses), everything=self._everything)
        self._told.clear()
        self._addresses, self._everything = set(), False
        return gone

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(DATAGRAMS):
            try:
                self._addresses.update(gone_in(self._socket.recv(65536)))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._everything = True
        if len(self._addresses) > ADDRESSES:
            self._addresses, self._everything = set(), True
        if self._addresses or self._everything:
            self._told.set()


def gone_in(datagram: bytes) -> Iterator[IpAddress]:
    """Return the addresses of a datagram's messages that say that one, or the route to one alone, is gone."""
    offset = 0
    while offset + HEADER.size <= len(datagram):
        length, kind, *_ = HEADER.unpack_from(datagram, offset)
        if length < HEADER.size:
            return
        if kind in BODY_SIZES:
            yield from _gone(kind, datagram[offset + HEADER.size : offset + length])
        offset += _aligned(length)


def _gone(kind: int, message: bytes) -> Iterator[IpAddress]:
    if len(message) < BODY_SIZES[kind]:
        return
    prefix_length, attributes = message[1], dict(_attributes(message[BODY_SIZES[kind] :]))
    # IFA_LOCAL is our own address, IFA_ADDRESS the other end's on a point-to-point link; IPv6 often has no IFA_LOCAL.
    names = (IFA_LOCAL, IFA_ADDRESS) if kind == RTM_DELADDR else (RTA_DST,)
    packed = next((attributes[name] for name in names if name in attributes), b"")
    if len(packed) in (4, 16) and (kind == RTM_DELADDR or prefix_length == 8 * len(packed)):
        yield ipaddress.ip_address(packed)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            return
        yield kind, data[offset + ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
