"""What `lvs pki` prints of certificates: tables for people, documents for programs. Pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from cli.pki_facts import P256, Facts
from cli.pki_survey import Row, State, Survey
from cli.text_table import table

HEAD = ("CERTIFICATE", "SERIAL", "ADDRESSES", "NOT BEFORE (UTC)", "EXPIRES (UTC)", "STATE")


def survey_lines(found: Survey, now: datetime.datetime) -> Iterator[str]:
    """Return what lvs pki show prints of a PKI."""
    ca = found.ca
    yield f"CA of {ca.domain or 'no domain'}: {found.place}"
    yield f"  serial {ca.serial}, {ca.key}, {expiry(ca, now)}"
    if found.problem:
        yield f"  NOTHING CAN BE ISSUED: {found.problem}"
    yield ""
    if not found.rows:
        yield "no certificate was issued"
        return
    yield from table(HEAD, [_cells(row, now) for row in found.rows]).splitlines()


def file_lines(row: Row, now: datetime.datetime) -> Iterator[str]:
    """Return what lvs pki show prints of a certificate in a file."""
    facts = row.facts
    if facts is None:
        return
    yield f"{row.place}:"
    yield f"  identity    {facts.identity or f'NONE: {facts.refused}'}"
    yield f"  serial      {facts.serial}"
    yield f"  subject     {facts.subject or '-'}"
    yield f"  issuer      {facts.issuer or '-'}"
    yield f"  addresses   {_addresses(facts)}"
    yield f"  not before  {_time(facts.not_before)} UTC"
    yield f"  expires     {_time(facts.not_after)} UTC: {expiry(facts, now)}"
    yield f"  key         {facts.key}"
    for each in facts.warnings:
        yield f"  warning     {each}"


def survey_document(found: Survey, now: datetime.datetime) -> dict[str, Any]:
    """Return the same as a document."""
    ca = {**facts_document(found.ca, now), "file": str(found.place), "problem": found.problem}
    return {"ca": ca, "certificates": [row_document(row, now) for row in found.rows]}


def row_document(row: Row, now: datetime.datetime) -> dict[str, Any]:
    """Return one certificate as a document, with its place."""
    place = {"name": row.name, "file": str(row.place), "state": row.state.value, "notes": list(row.notes)}
    facts = dict.fromkeys(FIELDS) if row.facts is None else facts_document(row.facts, now)
    return {**place, **facts}


def facts_document(facts: Facts, now: datetime.datetime) -> dict[str, Any]:
    """Return what a certificate says; identity is empty where an agent accepts nobody, and refused says why."""
    return {
        "identity": str(facts.identity or ""),
        "refused": facts.refused,
        "domain": facts.domain,
        "serial": facts.serial,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "addresses": [str(each) for each in facts.addresses],
        "not_before": _rfc3339(facts.not_before),
        "not_after": _rfc3339(facts.not_after),
        "days_left": facts.days_left(now),
        "expired": facts.expired(now),
        "key": facts.key,
        "is_ca": facts.is_ca,
        "warnings": list(facts.warnings),
    }


FIELDS = (
    *("identity", "refused", "domain", "serial", "subject", "issuer", "addresses", "not_before", "not_after"),
    *("days_left", "expired", "key", "is_ca", "warnings"),
)
"""Of the document of a certificate; null, where there is none that could be read."""


def expiry(facts: Facts, now: datetime.datetime) -> str:
    """Say when a certificate expires, counted from now."""
    if now < facts.not_before:
        return "NOT YET VALID"
    days = round((facts.not_after - now) / datetime.timedelta(days=1))  # a second after it was made, too, it has 365
    if facts.expired(now):
        return f"EXPIRED {_days(-days)} ago" if days else "EXPIRED"
    return f"expires in {_days(days)}" if facts.days_left(now) else "EXPIRES WITHIN A DAY"


def _cells(row: Row, now: datetime.datetime) -> tuple[str, ...]:
    facts = row.facts
    if facts is None:
        return (row.name, "-", "-", "-", "-", _state(row, now))
    times = (_time(facts.not_before), _time(facts.not_after))
    return (row.name, facts.serial, _addresses(facts), *times, _state(row, now))


def _state(row: Row, now: datetime.datetime) -> str:
    words = [] if row.facts is None else [expiry(row.facts, now)]
    if row.state is not State.CURRENT:
        words.insert(0, row.state.value if row.state is State.SUPERSEDED else row.state.value.upper())
    if row.facts is not None and row.facts.key != P256:
        words.append(f"key {row.facts.key}")
    return ", ".join([*words, *row.notes])


def _addresses(facts: Facts) -> str:
    return " ".join(map(str, facts.addresses)) or "-"


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


def _time(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _rfc3339(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
