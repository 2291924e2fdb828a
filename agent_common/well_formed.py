"""Whether a message keeps what protobuf's own types promise, times in range and masks of names, and has no long list.

protobuf itself lets anything pass, until somebody computes with it or writes it as JSON, which journal and audit do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from agent_common.errors import InvalidInputError
from agent_common.limits import MAX_LIST

_MAX_SECONDS = 315_576_000_000
"""10,000 years: google/protobuf/duration.proto."""

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999: google/protobuf/timestamp.proto."""

_PATH = re.compile(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*(\.[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*)*")
"""What google/protobuf/field_mask.proto can write as JSON and read again."""


def check_well_formed(message: Message, path: str = "") -> None:
    """Raise InvalidInputError, which names the field, for a value that is none of its type."""
    for field, kind in _watched(message.DESCRIPTOR):
        name = f"{path}{field.name}"
        values = _values(message, field)
        if len(values) > MAX_LIST:
            raise InvalidInputError(name, f"{name}: {len(values)} are more than {MAX_LIST}")
        check = _CHECKS.get(kind, _check_inside)
        for each in values if kind else ():
            check(each, name)


@cache
def _watched(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, str], ...]:
    """Return the fields that are lists or have, however deep, one or such a type in them: a destination has none.

    With each its type, "" if it is only counted.
    """
    return tuple(
        (field, field.message_type.full_name if _is_watched(field, ()) and field.message_type is not None else "")
        for field in descriptor.fields
        if field.is_repeated or _is_watched(field, ())
    )


def _is_watched(field: FieldDescriptor, outer: tuple[str, ...]) -> bool:
    inner = field.message_type
    if inner is None or inner.full_name in outer or inner.GetOptions().map_entry:
        return False
    return inner.full_name in _CHECKS or any(
        each.is_repeated or _is_watched(each, (*outer, inner.full_name)) for each in inner.fields
    )


def _values(message: Message, field: FieldDescriptor) -> Sequence[Any]:
    value = getattr(message, field.name)
    if field.is_repeated:
        return value  # type: ignore[no-any-return]
    return (value,) if message.HasField(field.name) else ()


def _check_inside(value: Any, name: str) -> None:
    check_well_formed(value, f"{name}.")


def _check_duration(value: Any, name: str) -> None:
    is_mixed = value.seconds * value.nanos < 0
    if abs(value.seconds) > _MAX_SECONDS or abs(value.nanos) >= 10**9 or is_mixed:
        raise InvalidInputError(name, f"{name}: {value.seconds} s and {value.nanos} ns are no duration")


def _check_timestamp(value: Any, name: str) -> None:
    if not _FIRST_SECOND <= value.seconds <= _LAST_SECOND or not 0 <= value.nanos < 10**9:
        raise InvalidInputError(name, f"{name}: {value.seconds} s and {value.nanos} ns are no time")


def _check_mask(value: Any, name: str) -> None:
    for path in value.paths:
        if not _PATH.fullmatch(path):
            raise InvalidInputError(name, f"{name}: {path!r} is no name of a field")


_CHECKS = {
    "google.protobuf.Duration": _check_duration,
    "google.protobuf.Timestamp": _check_timestamp,
    "google.protobuf.FieldMask": _check_mask,
}
