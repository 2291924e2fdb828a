"""Checks by DNS: records, return codes, and answers that are none."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from agent_common.check import DnsCheck
from agent_common.check_dns import refuse_unreadable
from agent_common.errors import InvalidInputError
from tests.common.checking import SECONDS, Handler, ask, detail, serving, unused_port
from tests.common.test_check_udp import Replies, answering

WWW = DnsCheck(name="www.example")
ZONE = {
    ("www.example.", "A"): ["192.168.0.1", "192.168.0.2"],
    ("www.example.", "AAAA"): ["2001:db8::1"],
    ("example.", "SOA"): ["ns.example. host.example. 1 2 3 4 5"],
    ("example.", "TXT"): ['"v=spf1 -all"'],
    ("example.", "MX"): ["10 Mail.example."],
}

Mend = Callable[[dns.message.Message], None]


def answer_to(wire: bytes, mend: Mend = lambda answer: None) -> bytes:
    """What the zone says."""
    question = dns.message.from_wire(wire)
    answer = dns.message.make_response(question)
    asked = question.question[0]
    name, kind = asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
    if name == "alias.example.":
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "www.example."))
        name = "www.example."
    if records := ZONE.get((name, kind)):
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *records))
    elif name not in [each for each, _ in ZONE]:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    mend(answer)
    return answer.to_wire()


def over_tcp(reply: Replies) -> Handler:
    """The same over TCP."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        for each in reply(await reader.readexactly(length)):
            framed = struct.pack("!H", len(each)) + each
            for part in (framed[:1], framed[1:7], framed[7:]):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        await reader.read()

    return handle


@asynccontextmanager
async def served(
    tcp: bool, reply: Callable[[bytes], list[bytes]] = lambda wire: [answer_to(wire)]
) -> AsyncIterator[int]:
    async with serving(over_tcp(reply)) if tcp else answering(reply) as port:
        yield port


each_transport = pytest.mark.parametrize("tcp", [False, True])


@each_transport
@pytest.mark.parametrize(
    ("name", "kind", "answers", "said"),
    [
        ("www.example", "A", (), "192.168.0.1, 192.168.0.2"),
        ("WWW.example.", "A", ("192.168.0.9", "192.168.0.2"), "192.168.0.1, 192.168.0.2"),
        ("www.example", "AAAA", ("2001:DB8:0::1",), "2001:db8::1"),
        ("alias.example", "A", ("192.168.0.1",), "192.168.0.1, 192.168.0.2"),
        ("alias.example", "CNAME", ("www.example",), "www.example."),
        ("example", "SOA", (), "ns.example. host.example. 1 2 3 4 5"),
        ("example", "TXT", ('"v=spf1 -all"',), '"v=spf1 -all"'),
        ("example", "MX", ("10 mail.EXAMPLE",), "10 Mail.example."),
    ],
)
async def test_an_answer_with_an_expected_record_passes(
    tcp: bool, name: str, kind: str, answers: tuple[str, ...], said: str
) -> None:
    """Any record where none is expected; names of whatever case, addresses however they are written."""
    async with served(tcp) as port:
        found = await ask(DnsCheck(name=name, type=kind, answers=answers, tcp=tcp), port)
    assert (found.passed, found.detail) == (True, said)


@each_transport
@pytest.mark.parametrize(
    ("check", "said"),
    [
        (DnsCheck(name="other.example"), "NXDOMAIN"),
        (DnsCheck(name="www.example", type="MX"), "no record of type MX"),
        (DnsCheck(name="www.example", answers=("192.168.0.3",)), "none of the expected records, but 192.168.0.1, 192."),
        (DnsCheck(name="www.example", answers=("nonsense",)), "'nonsense' is no record of type A"),
    ],
)
async def test_another_answer_fails_and_is_named(tcp: bool, check: DnsCheck, said: str) -> None:
    async with served(tcp) as port:
        check = DnsCheck(name=check.name, type=check.type, answers=check.answers, tcp=tcp)
        assert (await detail(check, port)).startswith(said)


@each_transport
async def test_return_codes_are_called_by_their_names(tcp: bool) -> None:
    def refusing(code: dns.rcode.Rcode) -> Replies:
        return lambda wire: [answer_to(wire, lambda answer: answer.set_rcode(code))]

    for code in (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP):
        async with served(tcp, refusing(code)) as port:
            assert await detail(DnsCheck(name="www.example", tcp=tcp), port) == dns.rcode.to_text(code)


async def test_a_truncated_answer_fails_and_says_what_to_do() -> None:
    def truncate(answer: dns.message.Message) -> None:
        answer.flags |= dns.flags.TC

    async with served(False, lambda wire: [answer_to(wire, truncate)]) as port:
        assert await detail(WWW, port) == "the answer is truncated; ask over TCP"


def others(wire: bytes) -> list[bytes]:
    """What answers another question, another identifier, nothing at all; and the question itself."""
    other = dns.message.make_query("other.example", "A", id=dns.message.from_wire(wire).id)
    return [
        b"",
        b"x",
        b"\xff" * 600,
        wire,
        dns.message.make_response(other).to_wire(),
        b"\x00\x00" + answer_to(wire)[2:],
    ]


async def test_datagrams_that_do_not_answer_the_question_are_left_lying() -> None:
    """Anybody can send them: the answer counts when it comes, and if it does not the check fails in time."""
    async with served(False, lambda wire: [*others(wire), answer_to(wire)]) as port:
        assert (await ask(WWW, port)).passed
    async with served(False, others) as port:
        said = f"no answer to the question, but other datagrams, within {SECONDS:g} s"
        assert await detail(WWW, port, SECONDS) == said


async def test_what_is_no_answer_over_tcp_fails_at_once() -> None:
    tcp = DnsCheck(name="www.example", tcp=True)

    def nth(number: int) -> Replies:
        return lambda wire: [others(wire)[number]]

    for number in range(6):
        async with served(True, nth(number)) as port:
            assert await detail(tcp, port) == "what came is no answer to the question"


async def test_a_server_that_does_not_answer_fails_in_time() -> None:
    """Or at once, where the host says that nobody is there."""
    async with served(False, lambda wire: []) as port:
        assert await detail(WWW, port, SECONDS) == f"no answer within {SECONDS:g} s"
    tcp = DnsCheck(name="www.example", tcp=True)
    async with served(True, lambda wire: []) as port:
        assert await detail(tcp, port, SECONDS) == f"connected, but no answer within {SECONDS:g} s"
    assert await detail(WWW, unused_port()) == "no answer: port unreachable"
    assert await detail(tcp, unused_port()) == "connection refused"


async def test_a_server_that_closes_in_the_middle_fails() -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"\x00\x50x")
        await writer.drain()
        writer.close()

    async with serving(closes) as port:
        said = await detail(DnsCheck(name="www.example", tcp=True), port)
    assert said == "connected, but no answer: connection closed"


def test_expected_records_that_are_none_are_refused_by_the_agent() -> None:
    """With the field and what is wrong, before anything is checked."""
    refuse_unreadable(DnsCheck(name="x", type="MX", answers=("10 mail.example.",)), "check.dns")
    with pytest.raises(InvalidInputError, match=r"check\.dns\.answers: 'mail' is no record of type MX") as caught:
        refuse_unreadable(DnsCheck(name="x", type="MX", answers=("10 ok", "mail")), "check.dns")
    assert caught.value.field == "check.dns.answers"


def test_the_library_is_loaded_with_the_first_check_only() -> None:
    code = "import sys, agent_common.checks; sys.exit('dns.message' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
