"""Hypothesis strategies for protobuf messages, made from their descriptors: boundary values, nonsense, and what is near
a request that makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

MAX_DEPTH, MAX_REPEATED = 6, 3

_ADDRESSES = (
    "192.168.0.200",
    "192.168.0.104",
    "192.168.0.10",
    "192.168.0.210",
    "2001:db8::200",
    "127.0.0.1",
    "::1",
    "0.0.0.0",
    "::",
    "255.255.255.255",
    "224.0.0.1",
    "ff02::1",
    "::ffff:192.168.0.200",
    "fe80::1%eth0",
    "192.168.000.200",
    "192.168.0.200/32",
)
_WORDS = (
    *("", "t", "u", "c", "id", "ada", "eth0", "lo", "rr", "wlc", "sh", "mh", "dh", "sip", "weight", "scheduler", "key"),
    *("*", ".", "..", "../../etc/passwd", "a b", "a\0b", "a\nb", "%s%n", "²", "\uff19", "-1", "0", "1e400", "inf"),
    *("x" * 15, "x" * 16, "x" * 64, "x" * 65, "x" * 256, "é" * 3000, "9" * 5000, "\U0010ffff", "\ufeff"),
    *("tcp/192.168.0.200:80", "fwmark/7", "tcp/[2001:db8::200]:80", "virtual_server.scheduler", "destination.weight"),
)
_SECONDS = (0, 1, 60, 900, 901, -1, 31 * 86400, 2**31, 315_576_000_000, 315_576_000_001, 2**63 - 1, -(2**63))
_NANOS = (0, 0, 0, 1, -1, 999_999_999, 10**9, 2**31 - 1, -(2**31))
_NUMBERS = (*(0, 1, 2, 7, 32, 33, 80, 128, 129, 1000, 1001), *(2**exponent - 1 for exponent in (16, 31, 32, 63, 64)))

_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

texts = st.sampled_from(_ADDRESSES) | st.sampled_from(_WORDS) | st.text(max_size=40)
times = st.tuples(st.sampled_from(_SECONDS), st.sampled_from(_NANOS))


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """Any message of a type."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if depth < MAX_DEPTH and draw(st.booleans()):
            fill(draw, message, field, depth)
    return message


@st.composite
def near(draw: st.DrawFn, good: Message) -> Message:
    """A message that makes sense, or one that differs from it in a few fields anywhere in it."""
    message = type(good)()
    message.CopyFrom(good)
    for _ in range(draw(st.sampled_from((0, 1, 1, 2, 3)))):
        places = list(_places(message))
        if places:
            inside, field = draw(st.sampled_from(places))
            inside.ClearField(field.name)
            if draw(st.integers(0, 9)):
                fill(draw, inside, field, MAX_DEPTH - 2)
    return message


def fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    """Set a field to anything."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(draw, message, field)
    elif field.is_repeated:
        values = draw(st.lists(_value(field, depth), max_size=MAX_REPEATED))
        getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(_value(field, depth)))
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, draw(_value(field, depth)))


def _fill_map(draw: st.DrawFn, message: Message, field: FieldDescriptor) -> None:
    assert field.message_type is not None
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for each in draw(st.lists(_value(key, MAX_DEPTH), max_size=MAX_REPEATED)):
        if value.message_type is None:
            getattr(message, field.name)[each] = draw(_value(value, MAX_DEPTH))


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _message(field.message_type, depth + 1)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            known = [each.number for each in field.enum_type.values]
            return st.sampled_from([*known, *known, 99, -1, 2**31 - 1, -(2**31)])
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=200) if field.type == FieldDescriptor.TYPE_BYTES else texts
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return st.floats(width=32)
        case kind:
            least, most = _BITS[kind]
            near = [each for each in (*_NUMBERS, -1, least, most) if least <= each <= most]
            return st.sampled_from(near) | st.integers(least, most)


def _message(descriptor: Descriptor, depth: int) -> st.SearchStrategy[Message]:
    if descriptor.full_name in ("google.protobuf.Duration", "google.protobuf.Timestamp"):
        make = GetMessageClass(descriptor)
        return times.map(lambda each: make(seconds=each[0], nanos=each[1]))
    return messages(descriptor, depth)


def _places(message: Message) -> Iterator[tuple[Message, Any]]:
    """Every field of a message and of those in it."""
    for field in message.DESCRIPTOR.fields:
        yield message, field
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        inside: Sequence[Message] = ()
        if field.is_repeated:
            inside = getattr(message, field.name)
        elif message.HasField(field.name):
            inside = [getattr(message, field.name)]
        for each in inside:
            yield from _places(each)
