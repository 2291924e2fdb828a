"""What is remembered of a call that was to change something. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message
from lvsagent.v1 import audit_service_pb2, virtual_server_pb2

from agent_common.access import Caller
from agent_common.errors import LvsError, Reason
from agent_common.operation import Change
from agent_common.records import to_record
from agent_common.wire import unpack_key

MAX_REQUEST, MAX_IMAGE, MAX_CHANGES = 4000, 2000, 100
"""Characters of a request and of one thing before or after, and how many things: a table has thousands."""

MAX_NAME, MAX_MESSAGE = 100, 1000
"""Characters of a name and of an error's message: callers choose them."""

AuditRecord = audit_service_pb2.AuditRecord
Recorder = Callable[[AuditRecord], None]

_DOTS = "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that has ended, after so many seconds: with an answer, or an error; with neither it met a defect."""

    caller: Caller
    peer: str
    method: str
    request: Message | None
    answer: Message | None
    error: LvsError | None
    seconds: float
    now: float


def audit_record(ended: Ended) -> AuditRecord:
    """Return the record of a call that has ended."""
    request, error = ended.request, ended.error
    record = AuditRecord(
        caller=ended.caller.name,
        role=str(ended.caller.role),
        peer=ended.peer,
        method=ended.method,
        transaction_id=_cut(getattr(request, "transaction_id", ""), MAX_NAME),
        change_id=_cut(getattr(request, "change_id", ""), MAX_NAME),
        request="" if request is None else _json(to_record(request), MAX_REQUEST),
        outcome=str(error.reason) if error else "ok" if ended.answer is not None else str(Reason.INTERNAL),
        message=_cut(error.message, MAX_MESSAGE) if error else "",
    )
    record.time.FromNanoseconds(int(ended.now * 1e9))
    record.duration.FromTimedelta(timedelta(seconds=ended.seconds))
    changes = list(_changes_in(ended.answer))
    record.changes.extend(_audited(each) for each in changes[:MAX_CHANGES])
    if len(changes) > MAX_CHANGES:
        record.changes.add(resource=f"and {len(changes) - MAX_CHANGES} more")
    return record


def only_validates(request: Message | None) -> bool:
    """Whether a request asks only what would happen."""
    return bool(getattr(request, "validate_only", False))


def _changes_in(answer: Message | None) -> Iterator[Change]:
    """Return what an answer says was changed: of one operation, a batch, a transaction."""
    if answer is None:
        return
    fields = answer.DESCRIPTOR.fields_by_name
    found: Iterable[Change] = ()
    if "transaction" in fields:
        found = answer.transaction.changes  # type: ignore[attr-defined]  # the descriptor has said so
    elif "results" in fields:
        found = (each.change for each in answer.results if each.HasField("change"))  # type: ignore[attr-defined]
    elif "change" in fields:
        found = (answer.change,)  # type: ignore[attr-defined]
    yield from (each for each in found if each.made)


def _audited(change: Change) -> audit_service_pb2.AuditedChange:
    kind = change.WhichOneof("resource") or ""
    resource: Any = getattr(change, kind) if kind else None
    if kind == "table":
        done = {name: getattr(resource, name) for name in ("added", "edited", "removed", "adopted")}
        return audit_service_pb2.AuditedChange(resource="table", after=_json(done, MAX_IMAGE))
    return audit_service_pb2.AuditedChange(
        resource=_name(kind, resource), before=_image(resource, "before"), after=_image(resource, "after")
    )


def _image(resource: Any, side: str) -> str:
    """Return a thing before or after, as JSON; nothing where it was not there."""
    field = None if resource is None else resource.DESCRIPTOR.fields_by_name.get(side)
    if field is None:
        return ""
    value = getattr(resource, side)
    if not isinstance(value, Message):  # the holders of the sysctls
        return _json(list(value), MAX_IMAGE)
    return _json(to_record(value), MAX_IMAGE) if resource.HasField(side) else ""


def _name(kind: str, resource: Any) -> str:
    match kind:
        case "destination":
            key = (resource.after if resource.HasField("after") else resource.before).key
            address = f"[{key.address}]" if ":" in key.address else key.address or resource.address
            return f"{_key(resource.virtual_server)} {address}:{key.port}"
        case "virtual_server":
            return _key((resource.after if resource.HasField("after") else resource.before).key)
        case "vip":
            return f"vip/{(resource.after if resource.HasField('after') else resource.before).address}"
        case _:
            return kind


def _key(message: virtual_server_pb2.VirtualServerKey) -> str:
    """Return the text of a key that an agent has answered with."""
    return str(unpack_key(message))


def _json(value: Any, longest: int) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, separators=(",", ":")), longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - len(_DOTS)] + _DOTS


def matches(record: AuditRecord, text: str) -> bool:
    """Whether a text occurs in what a record is about."""
    named: Sequence[str] = (
        record.caller,
        record.method,
        record.transaction_id,
        record.change_id,
        *(each.resource for each in record.changes),
    )
    return any(text in each for each in named)
