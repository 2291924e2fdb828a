"""Checks by TCP: a connection is made, and nothing of it is left anywhere."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from ipaddress import ip_address

import pytest

from agent_common.check import TcpCheck
from agent_common.check_socket import CheckSocket, FailedError, shown
from tests.common.checking import SECONDS, ask, closes, detail, says_nothing, serving, target, unused_port

TCP = TcpCheck()


async def test_a_port_that_accepts_passes() -> None:
    """Whatever happens on the connection afterwards."""
    for handler in (says_nothing, closes):
        async with serving(handler) as port:
            answer = await ask(TCP, port)
            assert (answer.passed, answer.detail, answer.percent) == (True, "connected", None)


async def test_a_port_on_which_nothing_listens_fails() -> None:
    assert await detail(TCP, unused_port()) == "connection refused"


async def test_ipv6_is_asked_as_ipv4_is() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        assert (await ask(TCP, port, address="::1")).passed
    assert await detail(TCP, port, address="::1") == "connection refused"


async def test_a_port_that_does_not_answer_fails_in_time() -> None:
    """The kernel holds one connection more than the backlog, and drops what comes after it."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert await detail(TCP, port, SECONDS) == f"no answer within {SECONDS:g} s"


async def test_the_connection_is_reset() -> None:
    """Neither side keeps it in TIME_WAIT: ten thousand checks would use up a director's ports."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        await ask(TCP, server.getsockname()[1])
        with server.accept()[0] as accepted, pytest.raises(ConnectionResetError):
            accepted.recv(1)


async def test_what_cannot_be_connected_to_says_why() -> None:
    """A broadcast address needs permission; 240.0.0.0/4 and its like have no route on a host without one."""
    assert await detail(TCP, target(1, "255.255.255.255")) in {
        f"cannot connect: {os.strerror(errno.EACCES).lower()}",
        os.strerror(errno.ENETUNREACH).lower(),
    }


async def test_a_check_that_is_cancelled_leaves_nothing() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            task = asyncio.ensure_future(ask(TCP, port))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_an_agent_that_is_late_itself_takes_what_the_kernel_had_in_time() -> None:
    """The loop stands still for longer than the check may take; the connection was made meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as server, CheckSocket(ip_address("127.0.0.1"), 0.02) as connection:
        task = asyncio.ensure_future(connection.connect(server.getsockname()[1]))
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251  # that is what it is about
        await task


async def test_time_that_is_over_ends_every_wait() -> None:
    """Also one that begins afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as server, CheckSocket(ip_address("127.0.0.1"), 0.01) as connection:
        await connection.connect(server.getsockname()[1])
        connection.awaits = "greeting"
        for _ in range(2):
            with pytest.raises(FailedError, match=r"connected, but no greeting within 0\.01 s"):
                await connection.receive()


def test_what_another_side_sends_is_shown_in_one_printable_line() -> None:
    assert shown(b"a\r\n\x1b[31m\xff") == "a\\r\\n\\x1b[31m\\xff"
    assert shown("a\u202eb") == "a\\u202eb"
    assert shown("x" * 500) == "x" * 120 + "..."
