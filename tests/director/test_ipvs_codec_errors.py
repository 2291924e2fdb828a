"""What the IPVS codec cannot read or write it says, with one kind of error, and never takes for something else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.destination import MAX_WEIGHT, DestinationKey, DestinationStatus, Tunnel
from agent_common.virtual_server import Persistence, VirtualServer
from agent_director import ipvs_codec as codec
from agent_director.ipvs_codec import CodecError
from tests.director import golden_ipvs as golden
from tests.director import kernel_messages as kernel
from tests.director import strategies
from tests.director.test_ipvs_codec import unpack_destination, unpack_virtual_server

READERS: list[Callable[[bytes], object]] = [
    unpack_virtual_server,
    unpack_destination,
    lambda data: codec.unpack_info(data, 0, len(data)),
    lambda data: codec.unpack_timeouts(data, 0, len(data)),
    lambda data: codec.unpack_sync_daemon(data, 0, len(data)),
    lambda data: codec.unpack_virtual_server_statistics(data, 0, len(data)),
    lambda data: codec.unpack_destination_statistics(data, 0, len(data)),
]


def replaced(attributes: kernel.Attributes, kind: int, payload: bytes) -> kernel.Attributes:
    """Return the attributes with another payload for one type."""
    assert any(each == kind for each, _ in attributes)
    return [(each, payload if each == kind else value) for each, value in attributes]


@pytest.mark.parametrize(
    ("kind", "payload", "what"),
    [
        (1, kernel.u16(1), "address family 1"),
        (2, kernel.u16(1), "protocol 1"),
        (6, b"\xff\0", "name"),
        (6, b"x" * 16, "name"),
        (7, kernel.u32(0x40) + kernel.u32(0), "flags 0x40"),
        (8, kernel.u32(0), "timeout"),
        (8, kernel.u32(31 * 86400 + 1), "timeout"),
        (9, b"\0\0\0", "attribute 9"),
        (3, b"\xc0\xa8\0\xc8", "attribute 3"),
        (11, b"x" * 16, "name"),
    ],
)
def test_unknown_value_in_a_virtual_server_is_an_error(kind: int, payload: bytes, what: str) -> None:
    """A value that we do not know, or cannot express, is told and never read as another."""
    server = dataclasses.replace(golden.SH, persistence_engine="sip")
    assert unpack_virtual_server(kernel.message(1, kernel.virtual_server(server))) == server
    with pytest.raises(CodecError, match=what):
        unpack_virtual_server(kernel.message(1, replaced(kernel.virtual_server(server), kind, payload)))


@pytest.mark.parametrize(
    ("kind", "payload", "what"),
    [
        (3, kernel.u32(5), "forwarding method 5"),
        (4, kernel.u32(MAX_WEIGHT + 1), "weight 2147483648"),
        (4, b"\1", "attribute 4"),
        (11, kernel.u16(0), "address family 0"),
        (13, b"\3", "tunnel type 3"),
        (15, kernel.u16(3), "tunnel flags 3"),
    ],
)
def test_unknown_value_in_a_destination_is_an_error(kind: int, payload: bytes, what: str) -> None:
    """A value that we do not know is told and never read as another, in the kernel's order and in any other."""
    attributes = kernel.destination(unpack_destination(golden.DUMPED_DESTINATIONS[0][1]))
    for ordered in (attributes, attributes[::-1]):
        with pytest.raises(CodecError, match=what):
            unpack_destination(kernel.message(2, replaced(ordered, kind, payload)))


def test_object_of_another_kind_is_an_error() -> None:
    """A destination's attributes in a virtual server's place are not read as a destination, nor is mark 0 as a mark."""
    attributes = kernel.destination(unpack_destination(golden.DUMPED_DESTINATIONS[0][1]))
    with pytest.raises(CodecError, match="attribute 2 is missing"):
        unpack_destination(kernel.message(1, attributes))
    with pytest.raises(CodecError, match="mark 0"):
        unpack_virtual_server(kernel.message(1, replaced(kernel.virtual_server(golden.MARK6), 5, kernel.u32(0))))


def test_attribute_that_leaves_its_object_is_an_error() -> None:
    """An attribute that goes on behind the end of the object that holds it is not read, though the bytes are there."""
    message = bytearray(golden.DUMPED_DESTINATIONS[0][1] + kernel.join([(99, b"more")]))
    message[-8 - 8] += 4  # the length of the last attribute
    with pytest.raises(CodecError, match="it claims 10 bytes, 8 are there"):
        unpack_destination(bytes(message))


def test_netmask_and_timeout_mean_nothing_without_persistence() -> None:
    """ipvsadm can set a netmask with holes on any virtual server; without persistence it is not looked at."""
    attributes = replaced(kernel.virtual_server(golden.ONE_PACKET), 9, bytes((255, 0, 255, 0)))
    assert unpack_virtual_server(kernel.message(1, replaced(attributes, 8, kernel.u32(7)))) == golden.ONE_PACKET


@pytest.mark.parametrize(
    "write",
    [
        lambda: codec.pack_virtual_server(dataclasses.replace(golden.SH, scheduler="")),
        lambda: codec.pack_virtual_server(dataclasses.replace(golden.SH, scheduler="x" * 16)),
        lambda: codec.pack_virtual_server(dataclasses.replace(golden.SH, scheduler="r\0r")),
        lambda: codec.pack_virtual_server(dataclasses.replace(golden.SH, scheduler="é")),
        lambda: codec.pack_virtual_server(
            dataclasses.replace(golden.SH, persistence=Persistence(timeout=1, prefix_length=33))
        ),
        lambda: codec.pack_destination(dataclasses.replace(golden.NAT, weight=-1)),
        lambda: codec.pack_destination(dataclasses.replace(golden.NAT, weight=2**32)),
        lambda: codec.pack_destination(dataclasses.replace(golden.NAT, upper_threshold=2**32)),
        lambda: codec.pack_destination(dataclasses.replace(golden.GUE, tunnel=Tunnel(port=65536))),
        lambda: codec.pack_destination_key(DestinationKey(address=golden.NAT.key.address, port=-1)),
    ],
)
def test_what_does_not_fit_is_not_written(write: Callable[[], bytes]) -> None:
    """A value without a place in the message is told before the kernel hears of it."""
    with pytest.raises(CodecError, match="cannot write"):
        write()


@given(strategies.statuses, st.data())
def test_truncated_message_is_an_error(status: DestinationStatus, data: st.DataObject) -> None:
    """A message that ends early is never read as a shorter one."""
    server = data.draw(strategies.virtual_servers)
    for message in (kernel.message(1, kernel.virtual_server(server)), kernel.message(2, kernel.destination(status))):
        end = data.draw(st.integers(0, len(message.rstrip(b"\0")) - 1))
        for read in READERS:
            with pytest.raises(CodecError):
                read(message[:end])


@given(st.binary(max_size=300))
def test_random_bytes_raise_codec_error_or_nothing(data: bytes) -> None:
    """Whatever bytes come, the answer is an object or CodecError."""
    for read in READERS:
        for message in (data, kernel.join([(1, data)]), kernel.join([(2, data)])):
            try:
                read(message)
            except CodecError:
                continue


@given(strategies.virtual_servers, strategies.statuses, st.data())
def test_changed_bytes_raise_codec_error_or_nothing(
    server: VirtualServer, status: DestinationStatus, data: st.DataObject
) -> None:
    """A message of which some bytes are others is an object or CodecError."""
    for whole in (kernel.message(1, kernel.virtual_server(server)), kernel.message(2, kernel.destination(status))):
        message = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
        for read in READERS:
            try:
                read(bytes(message))
            except CodecError:
                continue
