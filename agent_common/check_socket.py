"""The socket of one check: non-blocking on the event loop, with one time limit, and nothing left of it afterwards.

By hand rather than with asyncio's streams: a director makes thousands of checks a second, and a transport costs more
than all else of one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from agent_common.checker import Answer, Target
from agent_common.virtual_server import IpAddress, family_of

RECEIVE_BYTES = 64 * 1024
"""Octets that are read at a time."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset, and neither side keeps the connection in TIME_WAIT (socket(7))."""

_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR (include/uapi/linux/in.h, in6.h): without it only some ICMP errors are heard of."""

_PLAIN_ERRORS = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}
"""What says of itself that there is no connection."""


class FailedError(Exception):
    """A check has failed, and this is its detail; it never leaves the kinds of checks."""


class LateError(FailedError):
    """Its time is over."""


class CheckSocket:
    """A socket to one address; leaving its context closes it, a TCP connection by a reset.

    awaits says for people what is waited for: it is in the details of what goes wrong. Raises LateError when the
    seconds are over, FailedError for a connection that cannot be made, and OSError for what happens on one.
    """

    def __init__(self, address: IpAddress, seconds: float, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._seconds = seconds
        self._is_stream = kind == socket.SOCK_STREAM
        self.socket = socket.socket(family_of(address), kind | socket.SOCK_NONBLOCK, protocol)
        if self._is_stream:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            self.socket.setsockopt(*_RECVERR[address.version], 1)
        self._waiter: asyncio.Future[None] | None = None
        self._is_over = False
        self._timer = self._loop.call_later(seconds, self._end)
        self.awaits = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self.socket.close()

    async def connect(self, port: int) -> None:
        """Connect; a datagram socket is only told its address."""
        code = self.socket.connect_ex((str(self._address), port))
        if code == errno.EINPROGRESS:
            await self._until_writable()
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code in _PLAIN_ERRORS:
            raise FailedError(os.strerror(code).lower())
        if code:
            raise FailedError(f"cannot connect: {os.strerror(code).lower()}")

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """Speak TLS from here on; raises ssl.SSLError."""
        wrapped = context.wrap_socket(self.socket, server_hostname=server_name, do_handshake_on_connect=False)
        self.socket = wrapped
        while True:
            try:
                return wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await self._until_readable()
            except ssl.SSLWantWriteError:
                await self._until_writable()

    async def send(self, data: bytes) -> None:
        """Send all of it; a datagram goes out as one."""
        while True:
            try:
                data = data[self.socket.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                await self._until_writable()
            except ssl.SSLWantReadError:
                await self._until_readable()
            else:
                if not data:
                    return

    async def receive(self) -> bytes:
        """Return what comes next, a datagram or a part of a stream; nothing at the end of a stream."""
        while True:
            try:
                return self.socket.recv(RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                await self._until_readable()
            except ssl.SSLWantWriteError:
                await self._until_writable()

    async def receive_some(self) -> bytes:
        """Return what comes next of a stream; raises FailedError at its end."""
        if data := await self.receive():
            return data
        raise FailedError(f"connected, but no {self.awaits}: connection closed")

    def failure(self, error: OSError) -> str:
        """Say what went wrong on a connection that was made."""
        is_closed = not self._is_stream and error.errno == errno.ECONNREFUSED  # ICMP has said so
        return f"{self._missing()}: {'port unreachable' if is_closed else _words(error)}"

    async def _until_readable(self) -> None:
        file = self.socket.fileno()
        waiter = self._wait()
        self._loop.add_reader(file, _wake, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_reader(file)

    async def _until_writable(self) -> None:
        file = self.socket.fileno()
        waiter = self._wait()
        self._loop.add_writer(file, _wake, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_writer(file)

    def _wait(self) -> asyncio.Future[None]:
        if self._is_over:
            raise self._late()
        self._waiter = self._loop.create_future()
        return self._waiter

    def _end(self) -> None:
        """End what waits; what the kernel had for it is taken first, also where this agent itself was late."""
        self._is_over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._late())

    def _late(self) -> LateError:
        return LateError(f"{self._missing()} within {self._seconds:g} s")

    def _missing(self) -> str:
        lead = "connected, but " if self.awaits and self._is_stream else ""
        return f"{lead}no {self.awaits or 'answer'}"


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


Talk = Callable[[CheckSocket], Awaitable[Answer]]
"""What is done on a socket that is connected."""


async def over_tcp(target: Target, seconds: float, talk: Talk) -> Answer:
    """Connect, and return what a talk over the connection comes to; whatever fails on the way is a failed check."""
    return await over(lambda: _marked(CheckSocket(target.address, seconds), target), target.port, talk)


async def over_udp(target: Target, seconds: float, talk: Talk) -> Answer:
    """Return what a talk by datagrams comes to; whatever fails on the way, an ICMP error too, is a failed check."""
    return await over(
        lambda: _marked(CheckSocket(target.address, seconds, socket.SOCK_DGRAM), target), target.port, talk
    )


def _marked(opened: CheckSocket, target: Target) -> CheckSocket:
    """Give a socket the mark and the source that a target has; needs CAP_NET_ADMIN then."""
    if target.mark:
        opened.socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, target.mark)
    if target.source is not None:
        opened.socket.bind((str(target.source), 0))
    return opened


async def over(make: Callable[[], CheckSocket], port: int, talk: Talk) -> Answer:
    """Return what a talk over a socket comes to; whatever fails on the way is a failed check."""
    try:
        with make() as opened:
            try:
                await opened.connect(port)
                return await talk(opened)
            except OSError as error:
                return Answer(passed=False, detail=opened.failure(error))
    except FailedError as error:
        return Answer(passed=False, detail=str(error))
    except OSError as error:  # none to be had: this host's own trouble
        return Answer(passed=False, detail=f"cannot open a socket: {_words(error)}")


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def shown(text: str | bytes, longest: int = 120) -> str:
    """Return what another side has sent as one printable line, cut where it is long."""
    if isinstance(text, bytes):
        text = text[: longest + 1].decode("ascii", "backslashreplace")
    line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[: longest + 1])
    return line if len(line) <= longest else f"{line[:longest]}..."
