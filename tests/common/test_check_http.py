"""Checks by HTTP and HTTPS: the status, the body, the certificate, the weight; and servers that mean no good."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from agent_common.check import BODY_BYTES, HttpCheck, Tls
from agent_common.check_http import HEAD_BYTES, default_host
from agent_common.checks import NetworkChecks
from agent_common.health import DynamicWeight, WeightSource
from tests.certificates import Authority
from tests.common.checking import (
    SECONDS,
    Handler,
    ask,
    closes,
    detail,
    drips,
    resets,
    says_nothing,
    sends,
    serving,
    target,
    unused_port,
)

GET = HttpCheck()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
NAME = "127.0.0.1"
TOO_LONG = f"the answer's headers are longer than {HEAD_BYTES // 1024} KiB"


def answer(status: str = "200 OK", *headers: str, body: bytes = b"") -> bytes:
    """An answer without a length: its body ends with the connection."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "299 Whatever", "200"])
async def test_a_status_in_range_passes(status: str) -> None:
    async with serving(sends(answer(status))) as port:
        found = await ask(GET, port)
        assert (found.passed, found.detail) == (True, f"status {status[:3]}")


@pytest.mark.parametrize(
    ("statuses", "said"),
    [(((200, 299),), "status 503, wanted 200-299"), (((200, 200), (300, 404)), "status 503, wanted 200, 300-404")],
)
async def test_another_status_fails_and_is_named(statuses: tuple[tuple[int, int], ...], said: str) -> None:
    async with serving(sends(answer("503 Service Unavailable"))) as port:
        assert await detail(HttpCheck(statuses=statuses), port) == said


async def test_the_request_is_what_was_asked_for() -> None:
    """Method, path, Host, headers in their order; and that the connection is not to be kept."""
    heard: list[bytes] = []

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()

    check = HttpCheck(method="POST", path="/health?full=1", host="www.example", headers=(("X-A", "1"), ("x-a", "2")))
    async with serving(listens) as port:
        assert (await ask(check, port)).passed
        assert (await ask(GET, port)).passed
        assert (await ask(HttpCheck(headers=(("user-agent", "me"),)), port)).passed
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "POST /health?full=1 HTTP/1.1"
    assert [line for line in lines if line.lower().startswith("x-a")] == ["X-A: 1", "x-a: 2"]
    assert {"Host: www.example", "Connection: close", "Content-Length: 0"} < set(lines)
    assert f"Host: 127.0.0.1:{port}".encode() in heard[1]
    assert heard[2].lower().count(b"user-agent") == 1


@pytest.mark.parametrize(
    ("tls", "port", "address", "host"),
    [
        (None, 80, "192.168.0.104", "192.168.0.104"),
        (None, 443, "192.168.0.104", "192.168.0.104:443"),
        (Tls(verify=False), 443, "192.168.0.104", "192.168.0.104"),
        (Tls(verify=False), 80, "2001:db8::104", "[2001:db8::104]:80"),
        (None, 80, "2001:db8::104", "[2001:db8::104]"),
    ],
)
def test_the_host_is_the_address_and_a_port_that_is_not_the_schemes_own(
    tls: Tls | None, port: int, address: str, host: str
) -> None:
    assert default_host(HttpCheck(tls=tls), target(port, address)) == host


async def test_a_text_in_the_body_passes_as_soon_as_it_has_come() -> None:
    """In chunks, across their borders, before the body ends; another text fails."""
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    split = start + b"4\r\nxxhe\r\n" + b"5\r\nllo..\r\n"
    async with serving(sends(split, keep=True)) as port:
        assert (await ask(HttpCheck(body="hello"), port)).passed
    async with serving(sends(split + b"0\r\n\r\n", keep=True)) as port:
        assert await detail(HttpCheck(body="help"), port) == "status 200, but no 'help' in the body"


async def test_an_answer_of_http_1_0_will_do() -> None:
    async with serving(sends(b"HTTP/1.0 200 OK\r\n\r\nhello")) as port:
        assert (await ask(HttpCheck(body="hello"), port)).passed


@pytest.mark.parametrize(("before", "passes"), [(BODY_BYTES - 5, True), (BODY_BYTES - 4, False)])
async def test_only_the_first_64_kib_of_a_body_are_looked_at(before: int, passes: bool) -> None:
    async with serving(sends(answer(body=b"x" * before + b"hello" + b"x" * 100000))) as port:
        assert (await ask(HttpCheck(body="hello"), port)).passed is passes


async def test_a_body_that_nobody_asks_for_is_not_waited_for() -> None:
    """A server that sends the status and then stalls serves, as far as was asked."""
    stalls = sends(answer("200 OK", "Content-Length: 10"), keep=True)
    async with serving(stalls) as port:
        assert (await ask(GET, port)).passed
        late = await detail(HttpCheck(body="x"), port, SECONDS)
    assert late == f"connected, but no whole body within {SECONDS:g} s"


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer())
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Y: " + b"z" * 1000 + b"\r\n")
        await writer.drain()


async def endless_continue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (closes, "connected, but no answer: connection closed"),
        (resets, "connected, but no answer: connection reset by peer"),
        (sends(b""), "connected, but no answer: connection closed"),
        (sends(b"HTTP/1.1 200 OK\r\nX"), "connected, but no answer: connection closed"),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n", keep=True), "the answer is no HTTP/1.1: SSH-2.0-OpenSSH_9.2\\r\\n"),
        (sends(b"\x16\x03\x01\xff\x00"), "the answer is no HTTP/1.1: \\x16\\x03\\x01\\xff\\x00"),
        (sends(b"HTTP/2 200 OK\r\n\r\n"), "the answer is no HTTP/1.1: HTTP/2 200 OK"),
        (sends(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"), "the answer is no HTTP/1.1: illegal header line"),
        (sends(b"HTTP/1.1 9999 OK\r\n\r\n"), "the answer is no HTTP/1.1: illegal status line"),
        (
            sends(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10000),
            f"the answer's headers are longer than {HEAD_BYTES // 1024}",
        ),
        (
            sends(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100000),
            f"the answer's headers are longer than {HEAD_BYTES // 1024}",
        ),
        (endless_headers, f"the answer's headers are longer than {HEAD_BYTES // 1024} KiB"),
        (endless_continue, "more than 10 answers 1xx, and none that counts"),
        (endless_body, "status 200, but no 'hello' in the body"),
        (sends(answer("200 OK", "Content-Length: 9", body=b"hell")), "the answer is no HTTP/1.1: peer closed"),
        (sends(answer("200 OK", "Transfer-Encoding: chunked", body=b"zz\r\n")), "the answer is no HTTP/1.1: illegal"),
        (sends(answer("101 Switching Protocols", "Upgrade: x")), "the answer is no HTTP/1.1: "),
    ],
)
async def test_a_server_that_answers_nonsense_fails_at_once(handler: Handler, said: str) -> None:
    """However much of it, and whatever follows; what it has sent is bounded in what is kept."""
    async with serving(handler) as port:
        assert (await detail(HttpCheck(body="hello"), port)).startswith(said)


@pytest.mark.parametrize("handler", [says_nothing, drips, sends(b"HTTP/1.1 100 Continue\r\n\r\n", keep=True)])
async def test_a_server_that_does_not_come_to_an_end_fails_in_time(handler: Handler) -> None:
    """Says nothing, drips a byte at a time, promises more."""
    async with serving(handler) as port:
        assert await detail(GET, port, SECONDS) == f"connected, but no answer within {SECONDS:g} s"


async def test_a_port_on_which_nothing_listens_fails() -> None:
    assert await detail(GET, unused_port()) == "connection refused"


HEADER = DynamicWeight(source=WeightSource.HTTP_HEADER, header="X-Weight")
BODY = DynamicWeight(source=WeightSource.HTTP_BODY)
ELSEWHERE = DynamicWeight(source=WeightSource.AGENT_LOAD)


@pytest.mark.parametrize(
    ("dynamic", "sent", "percent", "said"),
    [
        (HEADER, answer("200 OK", "x-weight:  50 "), 50, ""),
        (HEADER, answer("200 OK", "X-Weight: -7"), -7, ""),
        (HEADER, answer("200 OK", "X-Weight: 123456789"), 123456789, ""),
        (HEADER, answer("200 OK", "X-Weight: 1234567890"), None, ", but the header X-Weight is no whole number"),
        (HEADER, answer("200 OK", "X-Weight: fifty"), None, ", but the header X-Weight is no whole number"),
        (HEADER, answer(), None, ", but no header X-Weight for the weight"),
        (BODY, answer(body=b"50\n"), 50, ""),
        (BODY, answer("200 OK", "Content-Length: 2", body=b"50"), 50, ""),
        (BODY, answer(body=b"50 %"), None, ", but the body is no whole number for the weight: 50 %"),
        (BODY, answer(body=b""), None, ", but the body is no whole number for the weight: "),
        (BODY, answer(body=b"5" * 100000), None, ", but the body is no whole number"),
        (ELSEWHERE, answer("200 OK", "X-Weight: 50", body=b"50"), None, ""),
        (None, answer("200 OK", "X-Weight: 50", body=b"50"), None, ""),
    ],
)
async def test_the_weight_is_read_where_it_stands(
    dynamic: DynamicWeight | None, sent: bytes, percent: int | None, said: str
) -> None:
    """As it is, bounds are the policy's; one that cannot be read is named, and the check passes all the same."""
    async with serving(sends(sent)) as port:
        found = await ask(GET, target(port, dynamic_weight=dynamic))
    assert found.passed
    assert found.percent == percent
    assert found.detail.startswith(f"status 200{said}")


async def test_a_text_that_is_wanted_beside_the_weight_is_looked_for_in_all_of_the_body() -> None:
    async with serving(sends(answer(body=b"50\n"))) as port:
        assert (await ask(HttpCheck(body="5"), target(port, dynamic_weight=BODY))).percent == 50
        assert not (await ask(HttpCheck(body="6"), target(port, dynamic_weight=BODY))).passed


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def context(authority: Authority, name: str = "web", days: tuple[float, float] = (-1, 1)) -> ssl.SSLContext:
    """What a server with a certificate for 127.0.0.1 proves itself with."""
    issued = authority.issue(name, addresses=[NAME], days=days)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(issued.files.cert, issued.files.key)
    return made


def https(authority: Authority, server_name: str = NAME) -> HttpCheck:
    return HttpCheck(tls=Tls(server_name=server_name, ca_file=str(authority.file)))


async def test_a_certificate_that_verifies_passes(authority: Authority) -> None:
    async with serving(sends(OK), context(authority)) as port:
        assert (await ask(https(authority), port)).passed


async def test_without_verification_any_certificate_passes(authority: Authority) -> None:
    """With a name and without one."""
    async with serving(sends(OK), context(authority, "old", days=(-9, -1))) as port:
        assert (await ask(HttpCheck(tls=Tls(verify=False)), port)).passed
        assert (await ask(HttpCheck(tls=Tls(verify=False, server_name="other.example")), port)).passed


async def test_a_wrong_certificate_fails_and_it_says_how(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other CA")
    for days, why in (((-9, -1), "certificate has expired"), ((1, 9), "certificate is not valid yet")):
        async with serving(sends(OK), context(authority, "dated", days=days)) as port:
            assert (await detail(https(authority), port)).startswith(why)
    async with serving(sends(OK), context(authority)) as port:
        for name in ("other.example", "127.0.0.2"):
            said = await detail(https(authority, name), port)
            assert said == f"certificate is for other names than {name}"
        assert await detail(https(other), port) == "certificate is of a CA that is not trusted"
        assert await detail(HttpCheck(tls=Tls(server_name=NAME)), port) == "certificate is of a CA that is not trusted"


async def test_a_self_signed_certificate_is_called_so(authority: Authority) -> None:
    """That of the CA itself is one."""
    key = authority.file.parent / "self.key"
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.write_key(key)
    made.load_cert_chain(authority.file, key)
    async with serving(sends(OK), made) as port:
        said = await detail(HttpCheck(tls=Tls(server_name=NAME)), port)
    assert said == "certificate is self-signed, and not one that is trusted"


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (sends(OK, after=b""), "connected, but no TLS handshake: it does not speak TLS"),
        (sends(b"x" * 70000, after=b""), "connected, but no TLS handshake: it does not speak TLS"),
        (closes, "connected, but no TLS handshake: connection closed"),
        (resets, "connected, but no TLS handshake: connection reset by peer"),
    ],
)
async def test_a_server_without_tls_fails(authority: Authority, handler: Handler, said: str) -> None:
    async with serving(handler) as port:
        assert await detail(https(authority), port) == said


async def test_a_server_that_stalls_in_the_handshake_or_after_it_fails_in_time(authority: Authority) -> None:
    async with serving(says_nothing) as port:
        said = await detail(https(authority), port, SECONDS)
        assert said == f"connected, but no TLS handshake within {SECONDS:g} s"
    async with serving(says_nothing, context(authority)) as port:
        assert await detail(https(authority), port, SECONDS) == f"connected, but no answer within {SECONDS:g} s"


async def test_the_name_that_is_asked_for_reaches_the_server(authority: Authority) -> None:
    """SNI; an address is none (RFC 6066, 3)."""
    heard: list[str | None] = []
    made = context(authority)
    made.sni_callback = lambda _, name, __: heard.append(name)
    async with serving(sends(OK), made) as port:
        await ask(HttpCheck(tls=Tls(verify=False, server_name="www.example")), port)
        await ask(https(authority), port)
    assert heard == ["www.example", None]


async def test_a_ca_file_is_read_again_when_it_changes(authority: Authority, tmp_path: Path) -> None:
    """An expired CA is replaced without a restart; one that cannot be used is named."""
    file, checker = tmp_path / "some.crt", NetworkChecks()
    check = HttpCheck(tls=Tls(server_name=NAME, ca_file=str(file)))
    async with serving(sends(OK), context(authority)) as port:
        said = (await ask(check, port, checker=checker)).detail
        assert said == f"cannot read the CA file {file}: No such file or directory"
        file.write_text("nonsense")
        said = (await ask(check, port, checker=checker)).detail
        assert said == f"cannot use the CA file {file}: it has no certificates (PEM)"
        file.write_bytes(Authority(tmp_path / "other").file.read_bytes())
        assert not (await ask(check, port, checker=checker)).passed
        _copy(authority.file, tmp_path).replace(file)
        assert (await ask(check, port, checker=checker)).passed


def _copy(file: Path, folder: Path) -> Path:
    copy = folder / "copy"
    copy.write_bytes(file.read_bytes())
    return copy
