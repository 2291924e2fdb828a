"""A netlink socket to the kernel: datagrams out and in. What they say is the codecs' business."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import Final

from agent_common.generic_netlink import NetlinkError
from agent_common.netlink_frames import CodecError

SOL_NETLINK: Final = 270
NETLINK_GENERIC: Final = 16
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
SO_RCVBUFFORCE: Final = 33
"""Not in the socket module; include/uapi/linux/netlink.h and asm-generic/socket.h."""

RECEIVE_BUFFER: Final = 8 * 2**20
"""Bytes. A dump needs no more than a datagram of it; a burst of errors, for many requests in one send, does."""

LARGEST_DATAGRAM: Final = 65536
"""Bytes. The kernel fills at most 32 KiB of a dump at a time (net/netlink/af_netlink.c, netlink_recvmsg)."""

TIMEOUT: Final = 10.0
"""Seconds. The kernel has its answer ready when the send returns; the loading of modules counts as sending."""


class NetlinkSocket:
    """A generic netlink socket of the network namespace that it is made in, for one thread at a time."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        try:
            self._set_options(timeout)
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise

    def _set_options(self, timeout: float) -> None:
        # Kernels before 4.12 have no extended acks: their errors are the errno alone, and the request behind it.
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK):
            with contextlib.suppress(OSError):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:  # without CAP_NET_ADMIN as much as net.core.rmem_max allows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # The kernel's own timeout: Python's settimeout costs a poll() for every datagram.
        seconds, fraction = divmod(timeout, 1)
        limit = struct.pack("@ll", int(seconds), int(fraction * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def send(self, data: bytes) -> None:
        """Send one datagram to the kernel; raises NetlinkError."""
        try:
            self._socket.sendto(data, (0, 0))
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "the request was not sent") from error

    def receive(self) -> bytes:
        """Return the next datagram from the kernel; raises NetlinkError (ETIMEDOUT, ENOBUFS) where there is none."""
        while True:
            try:
                data, _, flags, (sender, _) = self._socket.recvmsg(LARGEST_DATAGRAM)
            except BlockingIOError as error:
                raise NetlinkError(errno.ETIMEDOUT, "the kernel has not answered") from error
            except OSError as error:
                raise NetlinkError(error.errno or errno.EIO, "the answer is lost") from error
            if flags & socket.MSG_TRUNC:
                raise CodecError(f"cannot read a netlink datagram: it is longer than {LARGEST_DATAGRAM} bytes")
            if sender == 0:  # the kernel's own address; others may send here too
                return data

    def close(self) -> None:
        """Close the socket; a second time does nothing."""
        self._socket.close()
