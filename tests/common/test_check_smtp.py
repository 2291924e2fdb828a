"""Checks by SMTP: the greeting, EHLO, and servers that answer otherwise, too much, or not at all."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agent_common.check import SmtpCheck
from tests.common.checking import (
    SECONDS,
    Handler,
    ask,
    detail,
    resets,
    says_nothing,
    serving,
    target,
    unused_port,
)

SMTP = SmtpCheck()
GREETING = b"220 mail.example ESMTP\r\n"
EHLO = b"250-mail.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"


def server(*answers: bytes, heard: list[bytes] | None = None) -> Handler:
    """A server that says the first at once, and each other one when it has heard a line; then it says nothing."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()
            line = await reader.readline()
            if heard is not None and line:
                heard.append(line)
        while await reader.read(1024):
            pass

    return handle


async def test_a_server_that_greets_and_answers_ehlo_passes_and_is_told_quit() -> None:
    heard: list[bytes] = []
    async with serving(server(GREETING, EHLO, b"221 bye\r\n", heard=heard)) as port:
        answer = await ask(SmtpCheck(helo="director.example"), port)
    assert (answer.passed, answer.detail) == (True, "250 8BITMIME")
    assert heard == [b"EHLO director.example\r\n", b"QUIT\r\n"]


async def test_it_calls_itself_by_the_hosts_name_unless_told_otherwise() -> None:
    heard: list[bytes] = []
    async with serving(server(GREETING, EHLO, b"221 bye\r\n", heard=heard)) as port:
        assert (await ask(SMTP, port)).passed
    assert heard[0] == f"EHLO {socket.gethostname()}\r\n".encode()


async def test_a_greeting_of_many_lines_passes_also_in_pieces_and_without_carriage_returns() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in (b"2", b"20-mail\n22", b"0-more\n220 \n"):
            writer.write(each)
            await writer.drain()
            await asyncio.sleep(0.01)
        await server(EHLO, b"221 bye\r\n")(reader, writer)

    async with serving(slow) as port:
        assert (await ask(SMTP, port)).passed


async def test_what_has_passed_passes_however_the_server_takes_leave() -> None:
    """It may close, reset, refuse, or say nothing until the time is over."""
    for last, seconds in ((b"500 what?\r\n", 5.0), (b"garbage\r\n", 5.0), (b"", SECONDS)):
        async with serving(server(GREETING, EHLO, last)) as port:
            assert (await ask(SMTP, port, seconds)).passed


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (server(b"554 no service\r\n"), "greeting: 554 no service"),
        (server(b"421-busy\r\n421 come back\r\n"), "greeting: 421 come back"),
        (server(GREETING, b"502 what?\r\n"), "answer to EHLO: 502 what?"),
        (server(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "greeting is no SMTP: HTTP/1.1 400 Bad Request"),
        (server(b"\x16\x03\x01\r\n"), "greeting is no SMTP: \\x16\\x03\\x01"),
        (server(b"\r\n"), "greeting is no SMTP: "),
        (server(b"220-" + b"x" * 100000), "greeting is longer than 16 KiB"),
        (server(b"220-x\r\n" * 100000), "greeting is longer than 16 KiB"),
        (server(GREETING, b"250-x\r\n" * 100000), "answer to EHLO is longer than 16 KiB"),
    ],
)
async def test_a_server_that_answers_otherwise_fails_at_once(handler: Handler, said: str) -> None:
    async with serving(handler) as port:
        assert await detail(SMTP, port) == said


async def test_a_server_that_ends_the_connection_fails() -> None:
    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await resets(reader, writer)

    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(leaves) as port:
        assert await detail(SMTP, port) == "connected, but no greeting: connection closed"
    async with serving(greets) as port:
        assert await detail(SMTP, port) == "connected, but no answer to EHLO: connection reset by peer"
    assert await detail(SMTP, target(unused_port())) == "connection refused"


async def test_a_server_that_says_nothing_or_never_ends_its_line_fails_in_time() -> None:
    for handler, what in (
        (says_nothing, "greeting"),
        (server(b"220-"), "greeting"),
        (server(GREETING), "answer to EHLO"),
    ):
        async with serving(handler) as port:
            assert await detail(SMTP, port, SECONDS) == f"connected, but no {what} within {SECONDS:g} s"
