"""Reads the values of the options of lvs health set. Pure; each raises InvalidInputError that names its option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from agent_common.destination import DestinationKey
from agent_common.errors import InvalidInputError
from agent_common.health import Effect, Floor, Start, WeightSource
from agent_common.virtual_server import ServiceAddress, VirtualServerKey, parse_endpoint


def parse_rs(server: VirtualServerKey, text: str, field: str = "rs") -> DestinationKey:
    """Read a destination; without a port it has the virtual server's, behind a firewall mark none."""
    port = server.port if isinstance(server, ServiceAddress) else 0
    address, found = parse_endpoint(text, field, default_port=port, unicast=False)
    return DestinationKey(address=address, port=found)


def parse_sorry(server: VirtualServerKey, text: str) -> DestinationKey | None:
    """Read a sorry server; none: there is none."""
    return None if text == "none" else parse_rs(server, text, "sorry")


def parse_headers(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read NAME:VALUE; a single empty text: none."""
    found = []
    for text in _several(texts):
        name, colon, value = text.partition(":")
        if not colon:
            raise InvalidInputError("header", f"header: cannot read {text[:80]!r}; write NAME:VALUE")
        found.append((name.strip(), value.strip()))
    return tuple(found)


def parse_statuses(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Read 200 or 200-299; a single empty text: what a check has by itself."""
    found = []
    for text in _several(texts):
        ends = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
        if ends is None:
            raise InvalidInputError("status", f"status: cannot read {text[:80]!r}; write 200 or 200-299")
        found.append((int(ends[1]), int(ends[2] or ends[1])))
    return tuple(found) or ((200, 299),)


def parse_answers(texts: Sequence[str]) -> tuple[str, ...]:
    """Read the records of which one must be in an answer; a single empty text: any will do."""
    return _several(texts)


def parse_bytes(text: str, field: str) -> bytes:
    """Read octets: as text, or in hexadecimal behind 0x."""
    if not text.startswith("0x"):
        return text.encode()
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise InvalidInputError(
            field, f"{field}: {text[:80]!r} is not hexadecimal; write an even number of digits behind 0x"
        ) from None


def parse_command(text: str, field: str) -> tuple[str, ...]:
    """Read a program and its arguments, quoted as in a shell; an empty text: none."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidInputError(field, f"{field}: cannot read {text[:80]!r}: {str(error).lower()}") from None


def parse_start(text: str) -> Start:
    """Read down or up."""
    for each in Start:
        if each.value == text:
            return each
    raise InvalidInputError("start", f"start: {text!r} is unknown; use down or up")


def parse_effect(text: str) -> Effect | None:
    """Read weight-zero, remove or default."""
    if text == "default":
        return None
    for each in Effect:
        if each.value == text:
            return each
    raise InvalidInputError("effect", f"effect: {text!r} is unknown; use weight-zero, remove or default")


def parse_floor(text: str) -> Floor:
    """Read N or N%."""
    found = re.fullmatch(r"([0-9]{1,9})(%?)", text)
    if found is None:
        raise InvalidInputError("floor", f"floor: cannot read {text[:80]!r}; write a number of destinations, or N%")
    return Floor(percent=int(found[1])) if found[2] else Floor(destinations=int(found[1]))


def parse_dynamic_weight(text: str) -> tuple[WeightSource, str] | None:
    """Read where a dynamic weight comes from, and of a header its name; off: it does not change."""
    if text == "off":
        return None
    word, colon, header = text.partition(":")
    for each in WeightSource:
        if each.value == word and bool(colon) is (each is WeightSource.HTTP_HEADER):
            return each, header
    raise InvalidInputError(
        "dynamic_weight",
        f"dynamic_weight: {text[:80]!r} is unknown; use agent-load, http-body, script-status, http-header:NAME or off",
    )


def _several(texts: Sequence[str]) -> tuple[str, ...]:
    return () if tuple(texts) == ("",) else tuple(texts)
