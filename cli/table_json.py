"""A whole table as JSON: the entries of lvsagent.v1.WantedTable, with all that rules of ipvsadm cannot say."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from lvsagent.v1 import table_pb2

from agent_common.errors import InvalidInputError
from agent_common.table import Entry, Table
from agent_common.virtual_server import VirtualServerKey
from agent_common.wire_table import unpack_table
from cli import operations


def read_table(text: str) -> dict[VirtualServerKey, Entry]:
    """Read a table; raises InvalidInputError for what is no table, or breaks a rule of one."""
    try:
        wanted = json_format.Parse(text, table_pb2.WantedTable())
    except json_format.ParseError as error:
        raise InvalidInputError("table", f"table: {error}") from error
    return unpack_table(wanted.entries)


def write_table(table: Table) -> dict[str, Any]:
    """Return a table as a document."""
    message = table_pb2.WantedTable(entries=operations.apply_table(table, replace=False).apply_table.entries)
    document: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return {"entries": document.get("entries", [])}
