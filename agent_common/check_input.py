"""Rules for the texts in checks: names, headers, sizes. No I/O."""

from __future__ import annotations

import ipaddress
import re

from agent_common.errors import InvalidInputError

MAX_ITEMS = 20
"""Of headers, ranges of status codes, expected DNS records, and words of a command."""

MAX_TEXT = 1024
"""Octets of any text or payload."""

_HEADERS_OF_OUR_OWN = {"host", "content-length", "transfer-encoding", "connection"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def check_host_name(name: str, field: str) -> str:
    """Return a host's name, or an address; raises InvalidInputError."""
    if ip_version(name) is None and not is_name(name):
        raise InvalidInputError(field, f"{field}: {name[:80]!r} is no host name")
    return name


def octets(field: str, text: str) -> bytes:
    """Return a text as it is sent; raises InvalidInputError for one that was no UTF-8 where it came from."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(field, f"{field}: {text[:80]!r} is no UTF-8") from error


def is_name(text: str) -> bool:
    """Whether a text is a name of DNS: labels of letters, digits, hyphens and underscores."""
    return len(text) <= 253 and all(map(_LABEL.fullmatch, text.removesuffix(".").split(".")))


def ip_version(text: str) -> int | None:
    """Return 4 or 6, or None for what is no address; one with a scope, behind which anything may stand, is none."""
    try:
        return None if "%" in text else ipaddress.ip_address(text).version
    except ValueError:
        return None


def check_number(field: str, number: int) -> None:
    """Raise InvalidInputError for a list that is too long."""
    if number > MAX_ITEMS:
        raise InvalidInputError(field, f"{field}: {number} are more than {MAX_ITEMS}")


def check_text(field: str, text: bytes, *, empty: bool = True) -> None:
    """Raise InvalidInputError for a text that is too long, or empty where it must not be."""
    if len(text) > MAX_TEXT or not (text or empty):
        raise InvalidInputError(field, f"{field}: {len(text)} octets are not {0 if empty else 1} to {MAX_TEXT}")


def check_header_name(field: str, name: str) -> None:
    """Raise InvalidInputError for what no HTTP header is called."""
    if not _TOKEN.fullmatch(name) or len(name) > MAX_TEXT:
        raise InvalidInputError(field, f"{field}: {name[:80]!r} is no name of a header")


def check_header(field: str, name: str, value: str) -> None:
    """Raise InvalidInputError for a header that cannot be sent, or is the check's own."""
    check_header_name(field, name)
    if name.lower() in _HEADERS_OF_OUR_OWN:
        raise InvalidInputError(field, f"{field}: {name} is set by the check itself")
    if not re.fullmatch(r"[ -~]*", value) or len(value) > MAX_TEXT or value != value.strip():
        raise InvalidInputError(
            field,
            f"{field}: the value of {name} must be printable ASCII, {MAX_TEXT} at most, without a blank at either end",
        )
