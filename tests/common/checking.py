"""Servers for the checks, good and evil ones, and a check of one that must leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from agent_common.check import Kind
from agent_common.checker import Answer, Target
from agent_common.checks import NetworkChecks
from agent_common.virtual_server import parse_key

KEY = parse_key("tcp/192.168.0.200:80")

SECONDS = 0.15
"""For a check that is to time out."""

PLENTY = 5.0
"""For a check that is to end by itself, on a busy machine too."""

GRACE = 0.5
"""A check ends so long after its time at the latest, on a busy machine; a few milliseconds on an idle one."""

Made = Callable[[Any, Target, float], Awaitable[Answer]]
"""A checker, or one that makes but one kind of check."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def target(port: int, address: str = "127.0.0.1", **more: Any) -> Target:
    """Return what is asked."""
    return Target(address=ip_address(address), port=port, virtual_server=KEY, **more)


async def ask(
    kind: Kind, where: int | Target, seconds: float = PLENTY, checker: Made | None = None, **more: Any
) -> Answer:
    """Make one check; fail if it takes too long, or leaves a file or a task behind."""
    asked = where if isinstance(where, Target) else target(where, **more)
    files, tasks = open_files(), asyncio.all_tasks()
    begun = time.monotonic()
    answer = await (checker or NetworkChecks())(kind, asked, seconds)
    assert time.monotonic() - begun < seconds + GRACE
    until = time.monotonic() + PLENTY
    while (open_files() - files or asyncio.all_tasks() - tasks) and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.005)  # the server, in the same process, ends a turn later
    assert not open_files() - files
    assert not asyncio.all_tasks() - tasks, asyncio.all_tasks() - tasks
    return answer


async def detail(kind: Kind, where: int | Target, seconds: float = PLENTY, **more: Any) -> str:
    """Return why a check fails."""
    answer = await ask(kind, where, seconds, **more)
    assert not answer.passed, answer
    assert answer.detail.isprintable()
    return answer.detail


def open_files() -> set[tuple[str, str]]:
    """The open files of this process, with what they are."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add((each.name, str(each.readlink())))
        except OSError:  # that of the folder itself
            continue
    return found


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a port of loopback."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except OSError:
            pass  # a check ends with a reset
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def sends(data: bytes, *, after: bytes = b"\r\n\r\n", keep: bool = False) -> Handler:
    """A server that waits for something, answers with this, and closes, or keeps the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (reader.readuntil(after) if after else reader.read(65536))
        writer.write(data)
        await writer.drain()
        if keep:
            await reader.read()
        writer.close()
        await writer.wait_closed()

    return handle


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that takes connections and never speaks."""
    while await reader.read(1024):
        pass


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that closes every connection once it has heard something: with that unread it would be a reset."""
    await reader.read(65536)
    writer.close()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that resets every connection once it has heard something."""
    await reader.read(65536)
    own: socket.socket = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers for ever, a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


def unused_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port on which nothing listens."""
    with socket.socket(socket.AF_INET, kind) as own:
        own.bind(("127.0.0.1", 0))
        port: int = own.getsockname()[1]
        return port


def is_root() -> bool:
    """Whether these tests run as root."""
    return os.geteuid() == 0
