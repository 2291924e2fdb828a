"""Protobuf messages as they stand in the state: JSON with the protos' field names, which later versions still read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

_M = TypeVar("_M", bound=Message)


def to_record(message: Message) -> dict[str, Any]:
    """Return a message as a record keeps it."""
    record: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return record


def from_record(record: Mapping[str, Any], into: _M) -> _M:
    """Fill an empty message from a record, and return it."""
    return json_format.ParseDict(dict(record), into)
