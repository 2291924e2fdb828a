"""Tags that tell whether a message is still what it was."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message


def etag_of(message: Message) -> str:
    """Return a tag that changes whenever the message does: 16 hex digits."""
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()[:16]
