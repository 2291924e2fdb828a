"""Questions and answers of generic netlink: sequence numbers, acknowledgements, dumps. No I/O: that is a Datagrams'."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from typing import Final, Protocol

from agent_common import netlink_frames as frames
from agent_common.netlink_frames import CodecError, Frame

DUMP_ATTEMPTS: Final = 5

BATCH_SIZE: Final = 96 * 1024
"""Bytes. A datagram to the kernel must fit into the send buffer: net.core.wmem_default is 208 KiB."""

Message = tuple[bytes, int, int]
"""A message's attributes: the datagram, where they begin, and where they end."""


class NetlinkError(Exception):
    """The kernel answered with an errno, and perhaps a sentence; ETIMEDOUT and ENOBUFS mean that the answer is lost."""

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(f"{errno.errorcode.get(number, number)} {detail}".rstrip())
        self.number = number
        self.detail = detail


class DumpInterruptedError(Exception):
    """The kernel marked every attempt at a dump as overtaken by a change."""


class Datagrams(Protocol):
    """The way to the kernel, as NetlinkSocket has it."""

    def send(self, data: bytes) -> None:
        """Send one datagram; raises NetlinkError."""

    def receive(self) -> bytes:
        """Return the next datagram; raises NetlinkError."""

    def close(self) -> None:
        """Give it back."""


class GenericNetlink:
    """Generic netlink over datagrams, one exchange at a time."""

    def __init__(self, datagrams: Datagrams) -> None:
        self._datagrams = datagrams
        self._sequence = int.from_bytes(os.urandom(3), "big")

    def close(self) -> None:
        """Close the datagrams' way."""
        self._datagrams.close()

    def family(self, name: str) -> int | None:
        """Return the number of a family, or None where the kernel has no such family and cannot load its module."""
        sequence = self._next_sequence()
        try:
            answers = self._exchange(frames.pack_family_lookup(sequence, name), sequence)
        except NetlinkError as error:
            if error.number == errno.ENOENT:
                return None
            raise
        if len(answers) != 1:
            raise CodecError(f"cannot read the answer to a family lookup: {len(answers)} messages instead of one")
        return frames.unpack_family_lookup(*answers[0])

    def call(self, family: int, command: int, attributes: bytes = b"") -> list[Message]:
        """Send one request, and return what is answered before its acknowledgement; raises NetlinkError."""
        sequence = self._next_sequence()
        request = frames.pack_request(family, command, attributes, sequence=sequence, flags=frames.NLM_F_ACK)
        return self._exchange(request, sequence)

    def call_all(self, family: int, requests: Iterable[tuple[int, bytes]]) -> list[NetlinkError | None]:
        """Send many requests (command and attributes), as many at a time as fit; return what became of each, in order.

        Only the last of a send is acknowledged; one that fails answers anyway, and those behind it are carried out all
        the same. Raises NetlinkError where nothing is known of a send: some of it may be done then.
        """
        results: list[NetlinkError | None] = []
        batch: list[tuple[int, bytes]] = []
        size = 0
        for command, attributes in requests:
            length = len(attributes) + frames.REQUEST_SIZE
            if batch and size + length > BATCH_SIZE:
                results.extend(self._send_batch(family, batch))
                batch, size = [], 0
            batch.append((command, attributes))
            size += length
        return [*results, *self._send_batch(family, batch)] if batch else results

    def _send_batch(self, family: int, batch: list[tuple[int, bytes]]) -> list[NetlinkError | None]:
        sequences = [self._next_sequence() for _ in batch]
        last = sequences[-1]
        self._datagrams.send(
            b"".join(
                frames.pack_request(
                    family,
                    command,
                    attributes,
                    sequence=sequence,
                    flags=frames.NLM_F_ACK if sequence == last else 0,
                )
                for sequence, (command, attributes) in zip(sequences, batch, strict=True)
            )
        )
        places = {sequence: place for place, sequence in enumerate(sequences)}
        results: list[NetlinkError | None] = [None] * len(batch)
        while True:
            data = self._datagrams.receive()
            for frame in frames.unpack_frames(data):
                if frame.sequence not in places or frame.kind != frames.NLMSG_ERROR:
                    continue
                number, detail = frames.unpack_error(data, frame)
                if number != 0:
                    results[places[frame.sequence]] = NetlinkError(number, detail)
                if frame.sequence == last:
                    return results

    def dump(self, family: int, command: int, attributes: bytes = b"") -> list[Message]:
        """Send one request for a dump, and return all its messages; raises NetlinkError, DumpInterruptedError."""
        for _ in range(DUMP_ATTEMPTS):
            sequence = self._next_sequence()
            request = frames.pack_request(family, command, attributes, sequence=sequence, flags=frames.NLM_F_DUMP)
            with contextlib.suppress(DumpInterruptedError):
                return self._exchange(request, sequence)
        raise DumpInterruptedError

    def _next_sequence(self) -> int:
        self._sequence = self._sequence % 0xFFFFFFFF + 1  # 0 is for what the kernel sends unasked
        return self._sequence

    def _exchange(self, request: bytes, sequence: int) -> list[Message]:
        """Send, and collect until acknowledgement, error or end; all of it is read before anything is looked into.

        A dump that nobody reads to its end would make the next one EBUSY.
        """
        self._datagrams.send(request)
        answers: list[Message] = []
        interrupted = False
        while True:
            data = self._datagrams.receive()
            for frame in frames.unpack_frames(data):
                if frame.sequence != sequence:  # the rest of an exchange that was given up
                    continue
                interrupted |= bool(frame.flags & frames.NLM_F_DUMP_INTR)
                if frame.kind in (frames.NLMSG_ERROR, frames.NLMSG_DONE):
                    _raise_for(data, frame, interrupted)
                    return answers
                answers.append((data, frames.attributes_start(frame), frame.end))


def _raise_for(data: bytes, frame: Frame, interrupted: bool) -> None:
    number, detail = frames.unpack_error(data, frame)
    if number != 0:
        raise NetlinkError(number, detail)
    if interrupted:
        raise DumpInterruptedError
