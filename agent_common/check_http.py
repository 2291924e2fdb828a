"""A check by HTTP/1.1, also over TLS: a status in range, a text in the body, and a percentage for the weight."""

from __future__ import annotations

import re

import h11

from agent_common.check import BODY_BYTES, HttpCheck
from agent_common.check_socket import CheckSocket, FailedError, over_tcp, shown
from agent_common.check_tls import TlsContexts, start_tls
from agent_common.checker import Answer, Target
from agent_common.health import DynamicWeight, WeightSource
from agent_common.version import VERSION
from agent_common.virtual_server import format_endpoint

HEAD_BYTES = 32 * 1024
"""Octets of an answer's status line and headers together."""

MAX_INFORMATIONAL = 10
"""Answers 1xx before the one that counts."""

_START = b"HTTP/1."
_OWN_HEADERS = (("User-Agent", f"lvs-agents/{VERSION}"), ("Accept", "*/*"))
_WITH_CONTENT = ("POST", "PUT", "PATCH")
_NUMBER = re.compile(rb"\s*([+-]?[0-9]{1,9})\s*")


async def check_http(kind: HttpCheck, target: Target, seconds: float, contexts: TlsContexts) -> Answer:
    """Ask once, over a connection of its own."""

    async def talk(connection: CheckSocket) -> Answer:
        if kind.tls is not None:
            await start_tls(connection, kind.tls, contexts)
        try:
            return await _Exchange(kind, target.dynamic_weight, connection).answer(http_request(kind, target))
        except h11.RemoteProtocolError as error:
            return Answer(passed=False, detail=_not_http(error))

    return await over_tcp(target, seconds, talk)


class _Exchange:
    """A request and its answer, of which no more is read than what decides."""

    def __init__(self, kind: HttpCheck, dynamic: DynamicWeight | None, connection: CheckSocket) -> None:
        self._kind = kind
        self._dynamic = dynamic
        self._wants_number = dynamic is not None and dynamic.source is WeightSource.HTTP_BODY
        self._connection = connection
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._body = bytearray()
        self._heard = False

    async def answer(self, request: h11.Request) -> Answer:
        """Send the request, and judge what comes back."""
        head = self._http.send(request) or b""
        self._http.send(h11.EndOfMessage())
        self._connection.awaits = "answer"
        await self._connection.send(head)
        response = await self._response()
        status = response.status_code
        if not any(first <= status <= last for first, last in self._kind.statuses):
            return Answer(passed=False, detail=f"status {status}, wanted {_ranges(self._kind)}")
        if self._kind.body or self._wants_number:
            self._connection.awaits = "whole body"
            await self._read_body()
            if self._kind.body.encode() not in self._body:
                return Answer(passed=False, detail=f"status {status}, but no {shown(self._kind.body)!r} in the body")
        return self._passed(response)

    async def _response(self) -> h11.Response:
        for _ in range(MAX_INFORMATIONAL + 1):
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
        raise FailedError(f"more than {MAX_INFORMATIONAL} answers 1xx, and none that counts")

    async def _read_body(self) -> None:
        """Read what is looked at of the body; no further than the text, if that is all."""
        text = self._kind.body.encode()
        while len(self._body) < BODY_BYTES:
            event = await self._next()
            if not isinstance(event, h11.Data):
                return
            seen = max(len(self._body) - len(text), 0)
            self._body += event.data[: BODY_BYTES - len(self._body)]
            if text and not self._wants_number and self._body.find(text, seen) >= 0:
                return

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._connection.receive()
            if self._connection.awaits == "answer":
                self._check_start(data)
            self._http.receive_data(data)
        return event

    def _check_start(self, data: bytes) -> None:
        """Raise FailedError for the end, and for what cannot become HTTP/1: h11 waits for the end of any header."""
        if not data:
            raise FailedError("connected, but no answer: connection closed")
        if not self._heard and not _START.startswith(data[: len(_START)]):
            raise FailedError(f"the answer is no HTTP/1.1: {shown(data, 40)}")
        self._heard = True

    def _passed(self, response: h11.Response) -> Answer:
        detail = f"status {response.status_code}"
        match self._dynamic:
            case DynamicWeight(source=WeightSource.HTTP_HEADER, header=name):
                values = [value for each, value in response.headers if each == name.lower().encode()]
                return _with_percent(detail, values[0] if values else None, f"header {name}")
            case DynamicWeight(source=WeightSource.HTTP_BODY):
                return _with_percent(detail, bytes(self._body), "body")
        return Answer(passed=True, detail=detail)


def _with_percent(detail: str, text: bytes | None, where: str) -> Answer:
    """Return an answer with the number that stands there; without one it passes all the same."""
    if text is None:
        return Answer(passed=True, detail=f"{detail}, but no {where} for the weight")
    if number := _NUMBER.fullmatch(text):
        return Answer(passed=True, detail=detail, percent=int(number[1]))
    return Answer(passed=True, detail=f"{detail}, but the {where} is no whole number for the weight: {shown(text, 40)}")


def http_request(kind: HttpCheck, target: Target) -> h11.Request:
    """Return the request of a check."""
    given = {name.lower() for name, _ in kind.headers}
    headers = [
        ("Host", kind.host or default_host(kind, target)),
        *(each for each in _OWN_HEADERS if each[0].lower() not in given),
        *kind.headers,
        ("Connection", "close"),
    ]
    if kind.method in _WITH_CONTENT:
        headers.append(("Content-Length", "0"))
    return h11.Request(method=kind.method, target=kind.path, headers=headers)


def default_host(kind: HttpCheck, target: Target) -> str:
    """Return the address, with the port where it is not the scheme's own."""
    if target.port == (80 if kind.tls is None else 443):
        return str(target.address) if target.address.version == 4 else f"[{target.address}]"
    return format_endpoint(target.address, target.port)


def _ranges(kind: HttpCheck) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in kind.statuses)


def _not_http(error: h11.RemoteProtocolError) -> str:
    if error.error_status_hint == 431:
        return f"the answer's headers are longer than {HEAD_BYTES // 1024} KiB"
    return f"the answer is no HTTP/1.1: {shown(str(error))}"
