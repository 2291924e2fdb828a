"""Connections to the agents of real servers, kept while they work and are used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from agent_common.check_grpc import CHANNEL_OPTIONS, connecting_within, grpc_target
from agent_common.endpoint import TlsFiles
from agent_common.virtual_server import IpAddress

IDLE_SECONDS = 300.0
"""A connection that nobody has used for so long is closed."""

_SWEEP_SECONDS = 30.0

Where = tuple[IpAddress, int]
"""Address and port of an agent."""


@dataclass(slots=True, kw_only=True)
class _Kept:
    """A connection, with which files it was made, and how many use it."""

    channel: grpc.aio.Channel
    mark: object
    used: float
    users: int = 0
    is_dropped: bool = False


class AgentChannels:
    """A connection to each agent; whoever has seen one fail drops it.

    gRPC would wait before it tried anew, and a host that was dead would be taken for dead longer than it is.
    """

    def __init__(self, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._kept: dict[Where, _Kept] = {}
        self._swept = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    def __contains__(self, where: Where) -> bool:
        return where in self._kept

    @contextmanager
    def using(self, where: Where, seconds: float) -> Iterator[grpc.aio.Channel]:
        """Give a connection, made within so many seconds; raises InvalidInputError for TLS files that are missing."""
        now, mark = asyncio.get_running_loop().time(), self._tls and self._tls.mark()
        self._sweep(now)
        if where in self._kept and self._kept[where].mark != mark:
            self.drop(where)
        if where not in self._kept:
            self._kept[where] = _Kept(channel=self._open(where, seconds), mark=mark, used=now)
        kept = self._kept[where]
        kept.used, kept.users = now, kept.users + 1
        try:
            yield kept.channel
        finally:
            kept.users -= 1
            self._let_go(kept)

    def drop(self, where: Where) -> None:
        """Take a connection out of use; who waits for an answer on it has it until then."""
        if kept := self._kept.pop(where, None):
            kept.is_dropped = True
            self._let_go(kept)

    async def close(self) -> None:
        """Close every connection."""
        for where in list(self._kept):
            self.drop(where)
        while self._closing:
            await asyncio.wait(set(self._closing))

    def _open(self, where: Where, seconds: float) -> grpc.aio.Channel:
        options = (*CHANNEL_OPTIONS, connecting_within(seconds))
        if self._tls is None:
            return grpc.aio.insecure_channel(grpc_target(*where), options=options)
        ca, cert, key = self._tls.read()
        credentials = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
        # The address is what must stand in the certificate; gRPC would look for "ipv4:" before it.
        named = ("grpc.ssl_target_name_override", str(where[0]))
        return grpc.aio.secure_channel(grpc_target(*where), credentials, options=(*options, named))

    def _sweep(self, now: float) -> None:
        if now - self._swept < _SWEEP_SECONDS:
            return
        self._swept = now
        for where in [where for where, kept in self._kept.items() if now - kept.used > IDLE_SECONDS]:
            self.drop(where)

    def _let_go(self, kept: _Kept) -> None:
        if kept.is_dropped and kept.users == 0:
            task = asyncio.ensure_future(kept.channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
