"""A connection to one agent: questions with a time limit, what gRPC's errors mean, and how long each answer took."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from agent_common.grpc_errors import from_rpc_error
from agent_common.rpc_names import only_reads
from cli.errors import NoAnswerError
from cli.site import AgentName, Site

RECONNECT_SECONDS = 1.5
"""gRPC tries again by itself to reach an agent that could not be reached, at most a second later."""

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # an agent is never behind the operator's web proxy
    ("grpc.enable_retries", 0),  # we decide what is asked again
    ("grpc.use_local_subchannel_pool", 1),  # what another connection of this process has met is not ours
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),  # what a table of any size comes to
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One message to an agent and how long its answer took, in seconds."""

    agent: AgentName
    method: str
    seconds: float
    result: str


class Connection:
    """To one agent."""

    def __init__(self, agent: AgentName, site: Site, trace: Callable[[Call], None]) -> None:
        self.agent = agent
        self.endpoint = site.endpoint(agent)
        self._timeout = site.timeout
        self._trace = trace
        self._answered = float("-inf")  # when the agent last said anything, by the monotonic clock
        self._tls = site.tls
        self.channel = _open(site, str(self.endpoint), is_unix=bool(self.endpoint.path))

    @property
    def silent_seconds(self) -> float:
        """How long ago the agent last said anything."""
        return time.monotonic() - self._answered

    async def ask(self, method: Any, request: Message | AsyncIterator[Message], *, longer: float = 0) -> Any:
        """Call an RPC that answers once; the answer may take so many seconds longer than any other.

        What only reads is asked again over a new connection, if the one that was there ended in the middle: so it does
        where an agent has just been restarted, and gRPC has not noticed yet that the old one is gone.

        Raises LvsError for what the agent says, NoAnswerError if it says nothing.
        """
        seconds = self._timeout + longer
        name = _name(method)
        await self._connect()
        try:
            return await self._answer(name, lambda: method(request, timeout=seconds), seconds)
        except NoAnswerError as error:
            if not error.lost or not only_reads(name.rpartition("/")[2]):
                raise
        with contextlib.suppress(TimeoutError):  # it still counts as open until gRPC has seen its end
            ready = grpc.ChannelConnectivity.READY
            await asyncio.wait_for(self.channel.wait_for_state_change(ready), min(RECONNECT_SECONDS, self._timeout))
        await self._connect()
        return await self._answer(name, lambda: method(request, timeout=seconds), seconds)

    async def stream(self, method: Any, request: Message) -> AsyncIterator[Any]:
        """Call an RPC that answers with a stream; the time limit is that of each answer."""
        await self._connect()
        name, seconds = _name(method), self._timeout
        call = method(request)
        try:
            while (answer := await self._answer(name, lambda: self._next(call), seconds)) is not grpc.aio.EOF:
                yield answer
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()

    async def _next(self, call: Any) -> Any:
        try:
            return await asyncio.wait_for(call.read(), self._timeout)
        except TimeoutError as error:
            why = f"no answer from {self.endpoint} within {self._timeout:g} s"
            raise NoAnswerError(str(self.agent), why, sent=True) from error

    async def _answer(self, method: str, start: Callable[[], Any], seconds: float) -> Any:
        begun = time.monotonic()
        result = "ok"
        try:
            answer = await start()
        except grpc.aio.AioRpcError as error:
            result = error.code().name
            said = from_rpc_error(error)
            if said is not None:
                self._answered = time.monotonic()
                raise said from error
            raise self._no_answer(error, seconds) from error
        else:
            self._answered = time.monotonic()
            return answer
        finally:
            self._trace(Call(agent=self.agent, method=method, seconds=time.monotonic() - begun, result=result))

    async def _connect(self) -> None:
        """Wait for a connection: a question that was never sent did nothing, and that is worth knowing.

        A failure from before says nothing of now, so the next try is waited for; one that happens now ends it.
        """
        begun = time.monotonic()
        state = self.channel.get_state(try_to_connect=True)
        failed_before = state is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        seconds = min(RECONNECT_SECONDS, self._timeout) if failed_before else self._timeout
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and not failed_before:
                raise NoAnswerError(str(self.agent), await self._cannot_connect(""), sent=False)
            try:
                left = begun + seconds - time.monotonic()
                await asyncio.wait_for(self.channel.wait_for_state_change(state), max(left, 0))
            except TimeoutError as error:
                why = await self._cannot_connect(f" within {seconds:g} s")
                raise NoAnswerError(str(self.agent), why, sent=False) from error
            state = self.channel.get_state(try_to_connect=True)

    async def _cannot_connect(self, within: str) -> str:
        """Say that there is no connection, and why, as far as that can be found out."""
        from cli.tls_probe import explain  # only a failure needs it

        why = await explain(self.endpoint, self._tls)
        return f"cannot connect to {self.endpoint}{within}" + (f": {why}" if why else "")

    def _no_answer(self, error: grpc.aio.AioRpcError, seconds: float) -> NoAnswerError:
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                why = f"no answer from {self.endpoint} within {seconds:g} s"
            case grpc.StatusCode.UNIMPLEMENTED:
                why = f"the program at {self.endpoint} is not an agent of this kind"
            case grpc.StatusCode.UNAVAILABLE:
                why = f"lost the connection to {self.endpoint}"
            case _:
                why = f"{self.endpoint} answered {error.code().name}: {error.details()}"
        is_lost = error.code() is grpc.StatusCode.UNAVAILABLE
        is_unknown = error.code() is grpc.StatusCode.UNIMPLEMENTED
        return NoAnswerError(str(self.agent), why, sent=True, lost=is_lost, unknown=is_unknown)


def _open(site: Site, target: str, *, is_unix: bool) -> grpc.aio.Channel:
    if site.tls is None or is_unix:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    ca, cert, key = site.tls.read()
    credentials = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


def _name(method: Any) -> str:
    """Return Service/Method of a stub's callable."""
    path: bytes = method._method  # grpc.aio has no public name for it
    return path.decode().removeprefix("/lvsagent.v1.")
