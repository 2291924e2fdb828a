"""A check by DNS: passes when a question is answered without error, and with an expected record, if one is given.

dnspython is imported with the first such check: it is large, and most agents never make one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from agent_common.check import DnsCheck
from agent_common.check_socket import CheckSocket, FailedError, over_tcp, over_udp, shown
from agent_common.checker import Answer, Target
from agent_common.errors import InvalidInputError

if TYPE_CHECKING:
    from dns.message import Message
    from dns.rdata import Rdata

_LENGTH = struct.Struct("!H")
"""Before every message over TCP (RFC 1035, 4.2.2)."""


async def check_dns(kind: DnsCheck, target: Target, seconds: float) -> Answer:
    """Ask once."""
    question = dns_question(kind)

    async def talk(connection: CheckSocket) -> Answer:
        connection.awaits = "answer"
        ask = _ask_over_tcp if kind.tcp else _ask_by_datagram
        return _judge(kind, await ask(connection, question))

    return await (over_tcp if kind.tcp else over_udp)(target, seconds, talk)


def refuse_unreadable(kind: DnsCheck, field: str) -> None:
    """Raise InvalidInputError for expected records that are not of the type; for agents, who have dnspython."""
    try:
        _expected(kind)
    except FailedError as error:
        raise InvalidInputError(f"{field}.answers", f"{field}.answers: {error}") from error


def dns_question(kind: DnsCheck) -> Message:
    """Return the question of a check."""
    import dns.message

    return dns.message.make_query(kind.name, kind.type)


async def _ask_by_datagram(connection: CheckSocket, question: Message) -> Message:
    """Return the answer to the question; what is none is left lying: anybody can send it."""
    await connection.send(question.to_wire())
    while True:
        answer = _read(await connection.receive())
        if answer is not None and question.is_response(answer):
            return answer
        connection.awaits = "answer to the question, but other datagrams,"


async def _ask_over_tcp(connection: CheckSocket, question: Message) -> Message:
    wire = question.to_wire()
    await connection.send(_LENGTH.pack(len(wire)) + wire)
    data = b""
    while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]:
        data += await connection.receive_some()
    answer = _read(data[_LENGTH.size : _LENGTH.size + _LENGTH.unpack_from(data)[0]])
    if answer is None or not question.is_response(answer):
        raise FailedError("what came is no answer to the question")
    return answer


def _read(data: bytes) -> Message | None:
    """Return a message, or None for what is none."""
    import dns.exception
    import dns.message

    try:
        return dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None


def _judge(kind: DnsCheck, answer: Message) -> Answer:
    import dns.flags
    import dns.rcode
    import dns.rdatatype

    if answer.rcode() != dns.rcode.NOERROR:
        return Answer(passed=False, detail=dns.rcode.to_text(answer.rcode()))
    if answer.flags & dns.flags.TC:
        return Answer(passed=False, detail="the answer is truncated; ask over TCP")
    wanted = dns.rdatatype.from_text(kind.type)
    records = [record for records in answer.answer if records.rdtype == wanted for record in records]
    if not records:
        return Answer(passed=False, detail=f"no record of type {kind.type}")
    texts = ", ".join(sorted(record.to_text() for record in records))
    if kind.answers and not set(_expected(kind)) & set(records):
        return Answer(passed=False, detail=f"none of the expected records, but {shown(texts)}")
    return Answer(passed=True, detail=shown(texts))


def _expected(kind: DnsCheck) -> list[Rdata]:
    """Return the records that are expected; raises FailedError for a text that is none of the type."""
    import dns.exception
    import dns.name
    import dns.rdata

    found = []
    for text in kind.answers:
        try:
            found.append(dns.rdata.from_text("IN", kind.type, text, origin=dns.name.root, relativize=False))
        except (dns.exception.DNSException, ValueError) as error:
            raise FailedError(f"{shown(text)!r} is no record of type {kind.type}: {shown(str(error))}") from error
    return found
