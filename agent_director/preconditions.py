"""What an update or deletion may demand of what is there: the fields that it names, and an etag. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from agent_common.errors import ConflictError, InvalidInputError, Reason, RefusedError
from agent_common.etag import etag_of


def check_mask(paths: Sequence[str], fields: Sequence[str]) -> list[str]:
    """Return the fields of an update mask; raises InvalidInputError if it is empty or names another field."""
    unknown = [path for path in paths if path not in fields]
    if unknown or not paths:
        raise InvalidInputError(
            "update_mask",
            f"update_mask: {unknown[0]!r} cannot be updated" if unknown else "update_mask: must name a field",
        )
    return list(dict.fromkeys(paths))


def check_etag(etag: str, current: Message, name: str) -> None:
    """Raise ConflictError if an etag was given and the resource has another by now."""
    if etag and etag != etag_of(current):
        raise ConflictError(f"{name} has changed since it was read", Reason.CHANGED_MEANWHILE, resource=name)


def refuse_unusual(name: str, check: Callable[[], object]) -> None:
    """Raise RefusedError for what the kernel takes and lvs could not make again: it stays foreign."""
    try:
        check()
    except InvalidInputError as error:
        raise RefusedError(
            f"cannot adopt {name}: lvs could not make it like that ({error.message})", Reason.NOT_SUPPORTED
        ) from error
