"""When a connection fails, lvs says why: for each way in which TLS can fail, with agents as they are shipped."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent_common.endpoint import TlsFiles, parse_endpoint
from agent_common.errors import DeniedError, UnknownCallerError
from agent_common.identity import Kind
from cli.client import AgentClient
from cli.errors import ExitStatus, NoAnswerError, status_of
from cli.site import Site, real_server
from tests.certificates import Authority, Issued, uri
from tests.common.test_access import HERE, serving
from tests.hosts import RealServerHost

RS = "192.168.0.104"
SERVER = uri("realserver", "rs1")


def client(target: str, tls: TlsFiles | None) -> AgentClient:
    address = ip_address(RS)
    endpoint = parse_endpoint(target, "rs_agent", 9711)
    site = Site(directors=(), rs_agents={address: endpoint}, tls=tls, timeout=3.0)
    return AgentClient(real_server(address), site, lambda call: None)


async def why(target: str, tls: TlsFiles | None) -> str:
    """What somebody is told who asks the agent there."""
    asked = client(target, tls)
    try:
        with pytest.raises(NoAnswerError) as caught:
            await asked.host()
    finally:
        await asked.close()
    assert not caught.value.sent
    return str(caught.value)


Case = tuple[Callable[[Authority], Issued], Callable[[Authority, Authority], TlsFiles], str]


def good_server(ca: Authority) -> Issued:
    return ca.issue("server", SERVER, addresses=[HERE])


def good_client(ca: Authority, foreign: Authority) -> TlsFiles:
    return ca.issue("viewer", uri("viewer")).files


CASES: dict[str, Case] = {
    "unknown CA": (
        good_server,
        lambda ca, foreign: replace(good_client(ca, foreign), ca=foreign.file),
        "its certificate is of a CA that is not in --tls-ca",
    ),
    "expired": (
        lambda ca: ca.issue("server", SERVER, addresses=[HERE], days=(-2, -1)),
        good_client,
        "its certificate has expired; renew it on that host",
    ),
    "not yet valid": (
        lambda ca: ca.issue("server", SERVER, addresses=[HERE], days=(1, 2)),
        good_client,
        "its certificate is not valid yet; look at the clocks of both hosts",
    ),
    "wrong name": (
        lambda ca: ca.issue("server", SERVER, addresses=["192.0.2.1"]),
        good_client,
        "its certificate is not for 127.0.0.1",
    ),
    "our CA": (
        good_server,
        lambda ca, foreign: replace(foreign.issue("viewer", uri("viewer")).files, ca=ca.file),
        "it does not accept your certificate (--tls-cert): it knows another CA",
    ),
    "ours expired": (
        good_server,
        lambda ca, foreign: ca.issue("viewer", uri("viewer"), days=(-2, -1)).files,
        "your certificate (--tls-cert) has expired",
    ),
    "key of another": (
        good_server,
        lambda ca, foreign: replace(good_client(ca, foreign), key=foreign.issue("other").files.key),
        "--tls-key is not the key of --tls-cert",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_handshake_that_fails_is_explained(tmp_path: Path, case: str) -> None:
    """One sentence that names the thing at fault and where it is."""
    serve, ask, said = CASES[case]
    ca, foreign = Authority(tmp_path), Authority(tmp_path / "foreign", "foreign CA")
    serve(ca)
    async with serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target:
        told = await why(target, ask(ca, foreign))
        assert told.startswith(f"real server {RS}: cannot connect to {target}: "), told
        assert said in told


async def test_plaintext_where_tls_is_spoken_is_explained(tmp_path: Path) -> None:
    good_server(Authority(tmp_path))
    async with serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target:
        assert "it speaks TLS; give --tls-ca, --tls-cert and --tls-key" in await why(target, None)


@pytest.fixture
async def plaintext(tmp_path: Path) -> AsyncIterator[str]:
    """An agent on loopback without TLS files."""
    async with serving(tmp_path, Kind.REALSERVER, RealServerHost(), tls=None) as target:
        yield target


async def test_tls_where_plaintext_is_spoken_is_explained(tmp_path: Path, plaintext: str) -> None:
    told = await why(plaintext, good_client(Authority(tmp_path), Authority(tmp_path / "foreign")))
    assert "it does not speak TLS: it was started without TLS files" in told


async def test_where_nobody_listens_that_is_said(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        target = f"{HERE}:{probe.getsockname()[1]}"
    assert "nothing listens there" in await why(target, None)


async def test_who_is_connected_and_refused_is_told_why_with_status_13(tmp_path: Path) -> None:
    """By the agent, since TLS has let them in."""
    ca = Authority(tmp_path)
    good_server(ca)
    async with serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target:
        for issued, kind, said in (
            (ca.issue("nobody"), UnknownCallerError, "no URI"),
            (ca.issue("rs2", uri("realserver", "rs2")), DeniedError, "has the role nobody, and it needs viewer"),
        ):
            asked = client(target, issued.files)
            with pytest.raises(kind, match=said) as caught:
                await asked.host()
            assert status_of(caught.value) is ExitStatus.REFUSED
            await asked.close()
