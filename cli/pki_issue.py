"""What `lvs pki` changes: makes a CA, issues, renews. The clock is passed in. Imports cryptography."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_common.errors import DiffersError, LvsError, NotFoundError, Reason
from cli import pki_disk
from cli.pki import Authority, check_validity, lifetime, make_authority, make_pair
from cli.pki_facts import Facts, describe
from cli.pki_files import Entry, Folder
from cli.pki_request import Chosen, Holder, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was written, and where."""

    holder: Holder
    directory: Path
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What is to be renewed, and for how long; refusals say what else should be, and why it cannot."""

    folder: Folder
    authority: Authority
    now: datetime.datetime
    wanted: tuple[tuple[Holder, datetime.timedelta], ...]
    refusals: tuple[str, ...]

    def carry_out(self) -> Iterator[Issued]:
        """Renew one after the other; each that has come out is in place."""
        with pki_disk.locked(self.folder.path):
            for holder, valid in self.wanted:
                yield _write(self.folder, self.authority, holder, self.now, valid)


def init(path: Path, domain: str, now: datetime.datetime, valid: datetime.timedelta, *, force: bool) -> Facts:
    """Make a CA in a directory, which is made if it is missing; raises DiffersError if it has one, unless forced."""
    with pki_disk.telling("make", path):
        if path.exists() and not path.is_dir():
            raise refused(f"cannot make a CA in {path}: it is not a directory; nothing was changed")
        path.parent.mkdir(parents=True, exist_ok=True)
    folder = Folder(path)
    with pki_disk.new_directory(path), pki_disk.locked(path):
        if folder.has_authority() and not force:
            message = f"{path} has a CA, and without its key nothing it signed can be renewed; nothing was changed"
            raise DiffersError(f"{message} (--force replaces it)", Reason.IN_USE)
        pair = make_authority(domain, now, valid)
        folder.put_authority(pair)
    return describe(pair.certificate)


def issue(path: Path, holder: Holder, now: datetime.datetime, valid: datetime.timedelta, *, force: bool) -> Issued:
    """Issue a certificate; raises DiffersError if the identity has one, unless forced, and RefusedError."""
    folder = Folder(path)
    authority = folder.authority()
    with pki_disk.locked(path):
        if folder.holds(holder) and not force:
            message = f"{path / holder.directory} is there already; nothing was changed"
            raise DiffersError(f"{message} (lvs pki renew renews it, --force replaces it)", Reason.IN_USE)
        return _write(folder, authority, holder, now, valid)


def plan_renewal(path: Path, chosen: Chosen, now: datetime.datetime, valid: datetime.timedelta | None) -> Renewal:
    """Find out what is to be renewed, each for as long as before unless told otherwise; changes nothing.

    Raises NotFoundError for a name that has no certificate, and RefusedError if one that is named cannot be renewed:
    then none is. Where all are meant, or those that are due, one that cannot be renewed does not stop the others.
    """
    folder = Folder(path)
    authority = folder.authority()
    wanted, refusals = [], []
    for entry in _chosen(folder, chosen, now):
        try:
            holder, before = _as_before(entry, authority)
            check_validity(authority, now, valid or before)
        except LvsError as error:
            error.message = f"cannot renew {entry.holder}: {error.message}"
            if chosen.names:
                error.message += "; nothing was changed"
                raise
            refusals.append(error.message)
        else:
            wanted.append((holder, valid or before))
    return Renewal(folder=folder, authority=authority, now=now, wanted=tuple(wanted), refusals=tuple(refusals))


def _write(
    folder: Folder, authority: Authority, holder: Holder, now: datetime.datetime, valid: datetime.timedelta
) -> Issued:
    pair = make_pair(authority, holder, now, valid)
    directory = folder.put(holder, pair, authority)
    return Issued(holder=holder, directory=directory, facts=describe(pair.certificate))


def _chosen(folder: Folder, chosen: Chosen, now: datetime.datetime) -> list[Entry]:
    entries = folder.entries()
    if chosen.names:
        found = [_named(folder, entries, name) for name in chosen.names]
        return [each for number, each in enumerate(found) if each not in found[:number]]
    if chosen.everything:
        return entries
    return [each for each in entries if _is_due(each, now + chosen.within)]


def _is_due(entry: Entry, then: datetime.datetime) -> bool:
    """Whether a certificate ends before some time, or is of no use with its key."""
    return entry.broken or (entry.certificate is not None and entry.certificate.not_valid_after_utc <= then)


def _named(folder: Folder, entries: list[Entry], name: str) -> Entry:
    found = [each for each in entries if name in (str(each.holder), each.holder.name)]
    if not found:
        message = f"{folder.path} has no certificate of {name} (lvs pki show lists them); nothing was changed"
        raise NotFoundError(message, Reason.NOT_SUPPORTED)
    if len(found) > 1:
        raise refused(f"{name} may be {' or '.join(str(each.holder) for each in found)}: say which")
    return found[0]


def _as_before(entry: Entry, authority: Authority) -> tuple[Holder, datetime.timedelta]:
    """Return whose certificate it is and for how long it was made; raises RefusedError if it cannot be had again."""
    instead = "issue it anew with --force (lvs pki issue)"
    if entry.certificate is None:
        raise refused(f"{entry.problem}; {instead}")
    facts = describe(entry.certificate)
    if facts.identity is None or (facts.identity.kind, facts.identity.name) != (entry.holder.kind, entry.holder.name):
        raise refused(f"{entry.problem}; {instead}")
    if facts.identity.domain != authority.domain:
        raise refused(f"its domain is {facts.identity.domain}, and that of the CA {authority.domain}; {instead}")
    holder = Holder(kind=entry.holder.kind, name=entry.holder.name, addresses=facts.addresses)
    return holder, lifetime(entry.certificate)
