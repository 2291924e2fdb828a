"""What `lvs pki show` finds: the CA, what it has issued, what was superseded; or what is in a file. Changes nothing.

Imports cryptography.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from agent_common.errors import InvalidInputError, LvsError
from cli import pki_disk
from cli.pki_facts import Facts, describe
from cli.pki_files import CA_CERTIFICATE, CERTIFICATE, Entry, Folder, read_certificates, signed_by


class State(enum.StrEnum):
    """What a certificate is to its PKI."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One certificate; facts are None if there is none that can be read. place is its file."""

    place: Path
    name: str
    state: State
    facts: Facts | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A PKI; problem is why nothing can be issued here."""

    place: Path
    ca: Facts
    problem: str
    rows: tuple[Row, ...]


def survey(path: Path, now: datetime.datetime) -> Survey:
    """Read a PKI; raises RefusedError if it has no CA. What was superseded is there while it has not expired."""
    folder = Folder(path)
    ca = folder.certificate()
    entries = folder.entries()
    current = {each.certificate.serial_number for each in entries if each.certificate is not None}
    rows = [*(_row(each, ca) for each in entries), *_superseded(folder, current, ca, now)]
    return Survey(place=path / CA_CERTIFICATE, ca=describe(ca), problem=_problem(folder), rows=tuple(rows))


def look_at(path: Path) -> list[Row]:
    """Read the certificates of a file, or of a host's directory; raises InvalidInputError if there are none."""
    files = [path]
    if path.is_dir():
        files = [each for name in (CA_CERTIFICATE, CERTIFICATE) if pki_disk.is_there(each := path / name)]
    try:
        found = [(file, each) for file in files for each in read_certificates(file)]
    except LvsError as error:
        raise InvalidInputError("file", f"file: {error.message}") from error
    return [
        Row(place=file, name=str(facts.identity or ""), state=State.CURRENT, facts=facts)
        for file, certificate in found
        if (facts := describe(certificate))
    ]


def is_pki(path: Path) -> bool:
    """Whether a directory is that of a PKI, and not what was brought from one to a host, which has a CA, too."""
    return path.is_dir() and not pki_disk.is_there(path / CERTIFICATE)


def _row(entry: Entry, ca: x509.Certificate) -> Row:
    state = State.BROKEN if entry.broken else State.CURRENT
    notes = [entry.problem] if entry.problem else []
    if not entry.has_key:
        notes.append("its key is not here")
    if entry.certificate is not None:
        notes += _strange(entry.certificate, ca)
    facts = None if entry.certificate is None else describe(entry.certificate)
    place = entry.directory / CERTIFICATE
    return Row(place=place, name=str(entry.holder), state=state, facts=facts, notes=tuple(notes))


def _superseded(folder: Folder, current: Container[int], ca: x509.Certificate, now: datetime.datetime) -> Iterator[Row]:
    """By name, the latest last; an expired one opens nothing, and is left out."""
    found = []
    for place in folder.issued():
        try:
            certificate = read_certificates(place)[0]
            facts = describe(certificate)
        except LvsError as error:
            yield Row(place=place, name=place.name, state=State.BROKEN, facts=None, notes=(error.message,))
            continue
        if certificate.serial_number not in current and not facts.expired(now):
            found.append((facts, certificate, place))
    for facts, certificate, place in sorted(found, key=lambda each: (_short(each[0]), each[0].not_before)):
        notes = _strange(certificate, ca)
        yield Row(place=place, name=_short(facts), state=State.SUPERSEDED, facts=facts, notes=notes)


def _short(facts: Facts) -> str:
    """Return an identity without its domain."""
    who = facts.identity
    return f"{who.kind}/{who.name}" if who else facts.subject


def _strange(certificate: x509.Certificate, ca: x509.Certificate) -> tuple[str, ...]:
    return () if signed_by(certificate, ca) else ("another CA has signed it",)


def _problem(folder: Folder) -> str:
    try:
        folder.authority()
    except LvsError as error:
        return error.message
    return ""
