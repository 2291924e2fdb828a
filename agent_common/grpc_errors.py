"""The one place where errors become gRPC statuses, and statuses become errors again."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from lvsagent.v1 import error_pb2

from agent_common import errors
from agent_common.errors import InvalidInputError, LvsError, Reason

DOMAIN = "lvsagent.v1"
"""Domain of google.rpc.ErrorInfo in every error of ours."""

MAX_MESSAGE, MAX_VALUE, MAX_VALUES = 1500, 250, 6
"""Characters of a message and of a name in its metadata, as a header has them, and how many names.

All of it goes into headers, the message three times, and a gRPC client takes 8 KiB of them: of an error that is larger
it hears RESOURCE_EXHAUSTED, and not what was wrong.
"""

_CUT = "..."

_CODES: dict[type[LvsError], int] = {
    errors.InvalidInputError: code_pb2.INVALID_ARGUMENT,
    errors.NotFoundError: code_pb2.NOT_FOUND,
    errors.DiffersError: code_pb2.ALREADY_EXISTS,
    errors.RefusedError: code_pb2.FAILED_PRECONDITION,
    errors.ConflictError: code_pb2.ABORTED,
    errors.ExhaustedError: code_pb2.RESOURCE_EXHAUSTED,
    errors.UnknownCallerError: code_pb2.UNAUTHENTICATED,
    errors.DeniedError: code_pb2.PERMISSION_DENIED,
    errors.InternalError: code_pb2.INTERNAL,
}
_CLASSES = {code: kind for kind, code in _CODES.items()}


def to_status(error: LvsError) -> status_pb2.Status:
    """Return the google.rpc.Status of an error: code, message, ErrorInfo, and BadRequest if a field is at fault."""
    message = _short(error.message, MAX_MESSAGE)
    names = {name: _short(value, MAX_VALUE) for name, value in list(error.metadata.items())[:MAX_VALUES]}
    status = status_pb2.Status(code=_code(error), message=message)
    _attach(status, error_details_pb2.ErrorInfo(reason=f"REASON_{error.reason}", domain=DOMAIN, metadata=names))
    if error.field:
        field = _short(error.field, MAX_VALUE)
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        _attach(status, error_details_pb2.BadRequest(field_violations=[violation]))
    return status


def to_item(error: LvsError) -> error_pb2.ItemError:
    """Return the error as one item of a batch."""
    return error_pb2.ItemError(
        code=_code(error),
        reason=error_pb2.Reason.Value(f"REASON_{error.reason}"),
        message=error.message,
        field=error.field,
        metadata=error.metadata,
    )


def from_item(item: error_pb2.ItemError) -> LvsError:
    """Return the error that an item of a batch carries."""
    known = error_pb2.Reason.DESCRIPTOR.values_by_number.get(item.reason)
    return _build(item.code, item.message, known.name if known else "", item.field, dict(item.metadata))


def from_rpc_error(error: grpc.aio.AioRpcError) -> LvsError | None:
    """Return the error that an agent of ours sent, or None if the failure is gRPC's own (unreachable, timeout)."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has what it reads of a Call
    except (ValueError, DecodeError):  # gRPC ended the call otherwise, or something else was at the other end
        return None
    if status is None:
        return None
    info, field = error_details_pb2.ErrorInfo(), ""
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        else:
            detail.Unpack(info)
    if info.domain != DOMAIN:
        return None
    return _build(status.code, status.message, info.reason, field, dict(info.metadata))


def _short(text: str, longest: int) -> str:
    """Return a text, cut where it takes more than so many characters in a header: of a byte beyond ASCII, %XX."""
    used = 0
    for place, char in enumerate(text := text.encode("utf-8", "backslashreplace").decode()):
        used += 1 if " " <= char <= "~" and char != "%" else 3 * len(char.encode())
        if used > longest:
            return text[:place] + _CUT
    return text


def _code(error: LvsError) -> int:
    """Return the code of an error's class, or of what that is a kind of: a codec's error is an InternalError."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def _build(code: int, message: str, name: str, field: str, metadata: dict[str, str]) -> LvsError:
    kind = _CLASSES.get(code, errors.InternalError)
    # A newer agent may have reasons that this client does not know; what it says is worth hearing all the same.
    reason = next((each for each in Reason if f"REASON_{each}" == name), Reason.INTERNAL)
    if kind is InvalidInputError:
        return InvalidInputError(field, message, **metadata)
    return kind(message, reason, field=field, **metadata)


def _attach(status: status_pb2.Status, detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
