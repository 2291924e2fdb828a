"""An exchange with the kernel ends with its own answer, its own error or a loss, whatever else arrives."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest

from agent_common.generic_netlink import (
    BATCH_SIZE,
    DUMP_ATTEMPTS,
    DumpInterruptedError,
    GenericNetlink,
    NetlinkError,
)
from agent_common.netlink_frames import CodecError
from tests.director import kernel_messages as kernel

FAMILY = 28
MULTI, DUMP_INTR = 0x02, 0x10


class Script:
    """Stands for the kernel: answers each request with the datagrams that a function makes of its sequence number."""

    def __init__(self, answer: Callable[[int], list[bytes]]) -> None:
        self._answer = answer
        self._waiting: list[bytes] = []
        self.requests: list[bytes] = []
        self.is_closed = False

    def send(self, data: bytes) -> None:
        self.requests.append(data)
        self._waiting += self._answer(self.sequences[-1])

    def receive(self) -> bytes:
        if not self._waiting:
            raise NetlinkError(errno.ETIMEDOUT)
        return self._waiting.pop(0)

    def close(self) -> None:
        self.is_closed = True

    @property
    def sequences(self) -> list[int]:
        return [struct.unpack_from("=I", request, 8)[0] for request in self.requests]


def item(sequence: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a message of the family."""
    return kernel.frame(FAMILY, bytes((1, 1, 0, 0)) + payload, flags=flags, sequence=sequence)


def error(sequence: int, number: int = 0) -> bytes:
    """Return an error, or without a number an acknowledgement."""
    return kernel.frame(2, kernel.u32(-number & 0xFFFFFFFF) + kernel.frame(FAMILY, b""), flags=0x100, sequence=sequence)


def done(sequence: int, flags: int = MULTI, number: int = 0) -> bytes:
    """Return the end of a dump."""
    return kernel.frame(3, kernel.u32(-number & 0xFFFFFFFF), flags=flags, sequence=sequence)


def payloads(messages: list[tuple[bytes, int, int]]) -> list[bytes]:
    """Return the attributes of messages as bytes."""
    return [data[start:end] for data, start, end in messages]


def test_answer_and_acknowledgement() -> None:
    """What comes before the acknowledgement is the answer, in one datagram or in several."""
    for split in (lambda a, b: [a, b], lambda a, b: [a + b]):
        netlink = GenericNetlink(Script(lambda n, split=split: split(item(n, b"abcd"), error(n))))  # type: ignore[misc]
        assert payloads(netlink.call(FAMILY, 1)) == [b"abcd"]


def test_dump_over_several_datagrams() -> None:
    """A dump is complete when its end has come, and is in the kernel's order."""
    script = Script(lambda n: [item(n, b"1...", MULTI) + item(n, b"2...", MULTI), item(n, b"3...", MULTI) + done(n)])
    assert payloads(GenericNetlink(script).dump(FAMILY, 1)) == [b"1...", b"2...", b"3..."]


def test_every_request_has_its_own_number() -> None:
    """Sequence numbers are never used twice in a row, and never 0."""
    script = Script(lambda n: [error(n)])
    netlink = GenericNetlink(script)
    for _ in range(100):
        netlink.call(FAMILY, 1)
    assert len(set(script.sequences)) == 100
    assert 0 not in script.sequences


def test_late_answers_of_another_exchange_are_passed_over() -> None:
    """What is left of an exchange that was given up is not taken for this one's answer, nor its error."""
    script = Script(lambda n: [item(n - 1, b"old.") + error(n - 1, errno.EPERM), item(n, b"new."), error(n)])
    assert payloads(GenericNetlink(script).call(FAMILY, 1)) == [b"new."]


def test_error_of_the_kernel_is_raised() -> None:
    """An errno ends a call and a dump; also one that comes with the end of a dump."""
    for make in (error, lambda n, number: done(n, number=number)):
        netlink = GenericNetlink(Script(lambda n, make=make: [make(n, number=errno.EBUSY)]))  # type: ignore[misc]
        with pytest.raises(NetlinkError) as raised:
            netlink.dump(FAMILY, 1)
        assert raised.value.number == errno.EBUSY


def test_silence_is_an_error() -> None:
    """Without an answer, or with half a dump, the loss is told."""
    for answer in (lambda n: [], lambda n: [item(n, b"1...", MULTI)]):
        with pytest.raises(NetlinkError, match="ETIMEDOUT"):
            GenericNetlink(Script(answer)).dump(FAMILY, 1)


def test_interrupted_dump_is_read_again() -> None:
    """A dump that the kernel marks as overtaken by a change is thrown away and asked for again."""
    marked = [True, True, False]

    def answer(sequence: int) -> list[bytes]:
        flags = MULTI | DUMP_INTR * marked.pop(0)
        return [item(sequence, b"%d..." % len(marked), MULTI), item(sequence, b"....", flags), done(sequence)]

    assert payloads(GenericNetlink(Script(answer)).dump(FAMILY, 1)) == [b"0...", b"...."]


def test_dump_that_is_always_interrupted_is_given_up() -> None:
    """The readings are bounded, also where only the end carries the mark."""
    script = Script(lambda n: [item(n, b"....", MULTI), done(n, MULTI | DUMP_INTR)])
    with pytest.raises(DumpInterruptedError):
        GenericNetlink(script).dump(FAMILY, 1)
    assert len(script.requests) == DUMP_ATTEMPTS


class Batches:
    """Stands for the kernel: takes datagrams of many requests, and answers those that fail, and the last."""

    def __init__(self, failing: dict[int, int]) -> None:
        self._failing = failing
        self._waiting: list[bytes] = []
        self._count = 0
        self.sizes: list[int] = []

    def send(self, data: bytes) -> None:
        self.sizes.append(len(data))
        answers = [error(1, errno.EIO)]  # of an exchange that was given up
        while data:
            length, _, flags, sequence = struct.unpack_from("=IHHI", data)
            wants_answer = self._count in self._failing or flags & 0x04
            if wants_answer:
                answers.append(error(sequence, self._failing.get(self._count, 0)))
            self._count += 1
            data = data[length:]
        self._waiting += [b"".join(answers[:2]), *answers[2:]]

    def receive(self) -> bytes:
        if not self._waiting:
            raise NetlinkError(errno.ETIMEDOUT)
        return self._waiting.pop(0)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "failing", [{}, {0: errno.EEXIST}, {4999: errno.ENOENT}, {7: 1, 8: 2, 2500: 3, 4999: 4}], ids=str
)
def test_many_requests_go_in_few_datagrams_and_each_has_its_result(failing: dict[int, int]) -> None:
    """Whether the last of one failed or is acknowledged, it ends the exchange."""
    kernel_side = Batches(failing)
    results = GenericNetlink(kernel_side).call_all(FAMILY, ((5, b"x" * 100) for _ in range(5000)))
    assert {place: each.number for place, each in enumerate(results) if each is not None} == failing
    assert len(results) == 5000
    assert (len(kernel_side.sizes), max(kernel_side.sizes) <= BATCH_SIZE) == (7, True)
    assert sum(kernel_side.sizes) == 5000 * 120


def test_no_request_is_no_datagram() -> None:
    """Nothing is asked, and nothing waited for."""
    assert GenericNetlink(Script(lambda n: [])).call_all(FAMILY, []) == []


def test_a_batch_that_is_not_answered_is_an_error() -> None:
    """Nobody knows then what was done."""
    with pytest.raises(NetlinkError, match="ETIMEDOUT"):
        GenericNetlink(Script(lambda n: [error(n, errno.EPERM)])).call_all(FAMILY, [(1, b""), (1, b"")])


def test_family_is_a_number_or_none() -> None:
    """ENOENT means that there is no such family; any other error is raised, and so is an empty answer."""
    attributes = kernel.join([(1, kernel.u16(28))])
    assert GenericNetlink(Script(lambda n: [item(n, attributes) + error(n)])).family("IPVS") == 28
    assert GenericNetlink(Script(lambda n: [error(n, errno.ENOENT)])).family("IPVS") is None
    with pytest.raises(NetlinkError, match="EPERM"):
        GenericNetlink(Script(lambda n: [error(n, errno.EPERM)])).family("IPVS")
    with pytest.raises(CodecError):
        GenericNetlink(Script(lambda n: [error(n)])).family("IPVS")


def test_close_closes_the_way_to_the_kernel() -> None:
    """Nothing stays open."""
    script = Script(lambda n: [])
    GenericNetlink(script).close()
    assert script.is_closed
