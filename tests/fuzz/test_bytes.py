"""Bytes at random where an agent listens: it lives, and answers whoever comes next."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import strategies as st
from lvsagent.v1 import vip_service_pb2, vip_service_pb2_grpc

from tests.fuzz import http2
from tests.fuzz.fuzzing import Fuzz
from tests.fuzz.processes import Agent, running_agent

PATHS = st.sampled_from(
    (
        "/lvsagent.v1.VipService/ListVips",
        "/lvsagent.v1.VipService/CreateVip",
        "/lvsagent.v1.TransactionService/PrepareTransaction",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/lvsagent.v1.VipService/Nothing",
        "/",
        "",
        "\0",
        "x" * 5000,
    )
)
CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(range(32)) + bytes.fromhex("20") + bytes(32)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with running_agent(tmp_path_factory.mktemp("agent")) as agent:
        yield agent


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame of any kind, known or not, with anything in it."""
    kind, flags = draw(st.integers(0, 12)), draw(st.integers(0, 255))
    number = draw(st.sampled_from((0, 1, 3, 5, 2, 2**31 - 1, 2**32 - 1)))
    return http2.frame(kind, draw(st.binary(max_size=100)), flags=flags, stream=number)


@st.composite
def calls(draw: st.DrawFn) -> bytes:
    """A call with anything as its message, which may claim another length, or be compressed, it says."""
    number = draw(st.sampled_from((1, 3, 5)))
    data = draw(st.binary(max_size=300))
    claims = draw(st.none() | st.sampled_from((0, 1, 2**20, 2**20 + 1, 2**32 - 1)))
    sent = bytes([draw(st.sampled_from((0, 0, 0, 1, 255)))]) + http2.message(data, claims=claims)[1:]
    more = http2.header(
        draw(st.sampled_from(("a", "grpc-timeout", "x-bin", "grpc-encoding", ":path"))), draw(st.text())
    )
    flags = http2.END_HEADERS | draw(st.sampled_from((0, http2.END_STREAM)))
    start = http2.frame(http2.HEADERS, http2.headers(draw(PATHS), more=more), flags=flags, stream=number)
    return start + http2.frame(http2.DATA, sent, flags=draw(st.integers(0, 1)), stream=number)


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of which the end may be missing."""
    data = draw(whole)
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


conversations = cut(st.lists(st.one_of(frames(), calls(), st.binary(max_size=50)), max_size=8).map(b"".join)).map(
    lambda data: http2.HELLO + data
)
anything = st.one_of(st.binary(max_size=500), cut(st.just(http2.HELLO)), conversations)
handshakes = cut(st.binary(max_size=200).map(lambda end: CLIENT_HELLO + end))


def say(connect: Callable[[], socket.socket], data: bytes) -> None:
    """Send bytes, take what is said for a moment, and go."""
    with contextlib.suppress(OSError), connect() as connection:
        connection.sendall(data)
        connection.settimeout(0.005)
        while connection.recv(65536):
            pass


def answers(target: str, credentials: grpc.ChannelCredentials | None) -> None:
    """Fail unless a good client, on a new connection, has its answer."""
    make = grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
    with make as channel:
        vip_service_pb2_grpc.VipServiceStub(channel).ListVips(vip_service_pb2.ListVipsRequest(), timeout=10)


def good(agent: Agent) -> grpc.ChannelCredentials:
    ca, key, cert = (each.read_bytes() for each in agent.files("admin"))
    return grpc.ssl_channel_credentials(ca, key, cert)


def test_bytes_before_tls(agent: Agent, fuzz: Fuzz) -> None:
    """Whatever comes in place of a handshake, or as a part of one."""
    fuzz(lambda data: say(agent.connect, data), anything | handshakes, examples=100)
    answers(agent.target, good(agent))


def test_bytes_within_tls(agent: Agent, fuzz: Fuzz) -> None:
    """Whatever a caller with a certificate says in place of HTTP/2, as its frames, and as the messages of calls."""
    fuzz(lambda data: say(lambda: agent.connect_with_tls("viewer"), data), anything, examples=100)
    answers(agent.target, good(agent))


def test_tls_that_breaks(agent: Agent, fuzz: Fuzz) -> None:
    """A handshake in which any byte is another, or that ends anywhere."""
    recorded = client_handshake(agent)

    def check(place: int, byte: int, length: int) -> None:
        changed = bytearray(recorded)
        changed[place % len(recorded)] ^= byte
        say(agent.connect, bytes(changed[: length % (2 * len(recorded))]))

    fuzz(check, *[st.integers(0, 5000), st.integers(0, 255), st.integers(0, 5000)], examples=100)
    answers(agent.target, good(agent))


def client_handshake(agent: Agent) -> bytes:
    """What a client sends first."""
    ca, *_ = agent.files("viewer")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context: Any = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("where", ["unix", "plaintext"])
def test_bytes_without_tls(where: str, tmp_path: Path, fuzz: Fuzz) -> None:
    """The same at a unix socket, and at loopback without TLS, where whoever comes is an admin."""
    path = tmp_path / "api.sock"
    more = "{'tls': None}" if where == "plaintext" else f"{{'tls': None, 'beside': [Endpoint(path={str(path)!r})]}}"
    with running_agent(tmp_path, more) as agent:
        target = f"unix:{path}" if where == "unix" else agent.target

        def connect() -> socket.socket:
            if where != "unix":
                return agent.connect()
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            return connection

        fuzz(lambda data: say(connect, data), anything, examples=100)
        answers(target, None)
