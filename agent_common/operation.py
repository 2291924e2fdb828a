"""The messages that a change is made of: what is asked for, and what it did."""

from __future__ import annotations

from lvsagent.v1 import operation_pb2

Operation = operation_pb2.Operation
Change = operation_pb2.Change
