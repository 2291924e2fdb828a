"""Netlink's own parts: headers, errors with their sentence, and the lookup of a family."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common import netlink_frames as frames
from agent_common.netlink_frames import CodecError, Frame
from tests.director import kernel_messages as kernel

# Recorded on Linux 6.1.176 (little-endian), with NETLINK_CAP_ACK and NETLINK_EXT_ACK on.
LOOKUP = "20000000 1000 0500 a19d3c00 00000000 03 02 0000 0900 0200 49505653 00 000000"
"""CTRL_CMD_GETFAMILY for IPVS."""
ACK = "24000000 0200 0001 a19d3c00 bf020000 00000000 20000000 1000 0500 a19d3c00 00000000"
NO_SUCH_SERVICE = "24000000 0200 0001 a89d3c00 bf020000 fdffffff 44000000 1c00 0500 a89d3c00 00000000"
POLICY = (
    "60000000 0200 0003 aa9d3c00 bf020000 deffffff 1c000000 1c00 0500 aa9d3c00 00000000"
    "2700 0100 417474726962757465206661696c656420706f6c6963792076616c69646174696f6e 00 00"
    "0800 0200 14000000 0c00 0480 0800 0100 0d000000"
)
"""A service attribute of two bytes: ERANGE, a sentence, and where it was."""
DONE = "14000000 0300 0200 a39d3c00 bf020000 00000000"


def only(text: str) -> tuple[bytes, Frame]:
    """Return a recorded datagram and its one frame."""
    data = bytes.fromhex(text)
    (frame,) = frames.unpack_frames(data)
    return data, frame


def test_family_lookup_is_what_the_kernel_answered() -> None:
    """The question for a family is, byte for byte, the one that the kernel answered."""
    assert frames.pack_family_lookup(0x3C9DA1, "IPVS") == bytes.fromhex(LOOKUP)


@given(st.integers(0, 0xFFFF))
def test_family_number_is_read(number: int) -> None:
    """The number is found among the other attributes of the answer; without it, that is said."""
    name = (2, b"IPVS\0")
    answer = kernel.join([name, (1, kernel.u16(number)), (3, kernel.u32(1))])
    assert frames.unpack_family_lookup(answer, 0, len(answer)) == number
    with pytest.raises(CodecError, match="number is missing"):
        frames.unpack_family_lookup(kernel.join([name]), 0, 12)


@pytest.mark.parametrize(
    ("text", "sequence", "number", "sentence"),
    [
        (ACK, 0x3C9DA1, 0, ""),
        (DONE, 0x3C9DA3, 0, ""),
        (NO_SUCH_SERVICE, 0x3C9DA8, errno.ESRCH, ""),
        (POLICY, 0x3C9DAA, errno.ERANGE, "Attribute failed policy validation"),
    ],
)
def test_recorded_answers_are_read(text: str, sequence: int, number: int, sentence: str) -> None:
    """Acknowledgement, end of a dump, plain and extended error: number and sentence are the kernel's."""
    data, frame = only(text)
    assert frame.sequence == sequence
    assert frames.unpack_error(data, frame) == (number, sentence)


@given(st.integers(1, 4095), st.text(max_size=60), st.binary(max_size=30), st.booleans(), st.booleans())
def test_error_is_read_with_and_without_the_request(
    number: int, sentence: str, request: bytes, capped: bool, extended: bool
) -> None:
    """The sentence is found behind the request's header alone (NLM_F_CAPPED), and behind the whole request."""
    sentence = sentence.replace("\0", "")
    echo = kernel.frame(28, request)
    payload = kernel.u32(-number & 0xFFFFFFFF) + (echo[:16] if capped else echo)
    if extended:
        payload += kernel.join([(2, kernel.u32(20)), (1, sentence.encode() + b"\0")])
    data = kernel.frame(2, payload, flags=0x100 * capped + 0x200 * extended)
    (frame,) = frames.unpack_frames(data)
    assert frames.unpack_error(data, frame) == (number, sentence if extended else "")


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.binary(max_size=40))))
def test_frames_of_a_datagram_are_all_read(messages: list[tuple[int, int, bytes]]) -> None:
    """Every message of a datagram is found, with its kind, sequence number and payload."""
    data = b"".join(kernel.frame(kind, payload, sequence=sequence) for kind, sequence, payload in messages)
    found = [(frame.kind, frame.sequence, data[frame.start : frame.end]) for frame in frames.unpack_frames(data)]
    assert found == messages


@given(
    st.integers(16, 0xFFFF),
    st.integers(0, 255),
    st.binary(max_size=40).map(lambda payload: kernel.join([(1, payload)])),
    st.integers(0, 0xFFFFFFFF),
)
def test_request_there_and_back(family: int, command: int, attributes: bytes, sequence: int) -> None:
    """A request has its family, flags, sequence number and command where the kernel looks for them."""
    request = frames.pack_request(family, command, attributes, sequence=sequence, flags=frames.NLM_F_ACK)
    (frame,) = frames.unpack_frames(request + request[:0])
    assert (frame.kind, frame.sequence) == (family, sequence)
    assert frame.flags == frames.NLM_F_REQUEST | frames.NLM_F_ACK
    assert request[16:20] == bytes((command, 1, 0, 0))
    assert request[frames.attributes_start(frame) :] == attributes


@given(st.binary(max_size=120), st.sampled_from([ACK, NO_SUCH_SERVICE, POLICY, DONE]), st.data())
def test_garbage_raises_codec_error_or_nothing(noise: bytes, text: str, data: st.DataObject) -> None:
    """Random bytes, and recorded ones cut short or changed, are read or are a CodecError."""
    recorded = bytearray(bytes.fromhex(text))
    recorded[data.draw(st.integers(0, len(recorded) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(recorded)[: data.draw(st.integers(0, len(recorded)))]
    for datagram in (noise, cut, bytes(recorded), kernel.frame(2, noise), kernel.frame(2, noise, flags=0x300)):
        try:
            for frame in frames.unpack_frames(datagram):
                frames.attributes_start(frame)
                frames.unpack_error(datagram, frame)
        except CodecError:
            continue


@pytest.mark.parametrize("length", [0, 1, 15, 17, 0xFFFFFFFF])
def test_impossible_length_is_an_error(length: int) -> None:
    """A message that claims to be shorter than its header, or longer than the datagram, ends the reading."""
    data = kernel.u32(length) + kernel.frame(2, b"")[4:]
    with pytest.raises(CodecError):
        list(frames.unpack_frames(data))


def test_error_that_contradicts_itself_is_an_error() -> None:
    """A positive number is no errno, and a request that is longer than its answer hides no sentence."""
    longer = kernel.u32(2**32 - 1) + kernel.u32(400) + bytes(12)
    for payload, what in ((kernel.u32(1) + bytes(16), "not an errno"), (longer, "not within")):
        data = kernel.frame(2, payload, flags=0x200)
        (frame,) = frames.unpack_frames(data)
        with pytest.raises(CodecError, match=what):
            frames.unpack_error(data, frame)
