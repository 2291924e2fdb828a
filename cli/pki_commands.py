"""What the commands of `lvs pki` do and say, with clock and terminal. Imports cryptography, not typer."""

from __future__ import annotations

import datetime
import shlex
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent_common.errors import InvalidInputError, LvsError
from cli import pki_issue, pki_tables
from cli.errors import ExitStatus, status_of
from cli.outcome import Outcome
from cli.pki_files import Folder
from cli.pki_issue import Issued
from cli.pki_request import Chosen, Holder
from cli.pki_survey import is_pki, look_at, survey
from cli.terminal import Terminal
from cli.typed import NextCommand, suggested

Printed = tuple[Outcome, list[dict[str, Any]]]
"""How a command ended, and the certificates that it made, as documents."""


def init(terminal: Terminal, path: Path, domain: str, valid: datetime.timedelta, *, force: bool) -> int:
    """Make a CA, and return the exit status."""
    now = _now()

    def work() -> Printed:
        facts = pki_issue.init(path, domain, now, valid, force=force)
        message = f"made the CA of {domain} in {path}: {pki_tables.expiry(facts, now)}"
        command = f"lvs pki issue agent NAME --role director --address ADDRESS --pki {_quoted(path)}"
        following = NextCommand(purpose="to issue the first certificate", command=command)
        warning = f"whoever has {path / 'ca.key'} is let in as anybody: it stays off directors and real servers"
        outcome = Outcome(message=message, warnings=[warning], commands=[following])
        return outcome, [pki_tables.facts_document(facts, now)]

    return _change(terminal, work)


def issue(terminal: Terminal, path: Path, holder: Holder, valid: datetime.timedelta, *, force: bool) -> int:
    """Issue one certificate, and return the exit status."""
    now = _now()

    def work() -> Printed:
        issued = pki_issue.issue(path, holder, now, valid, force=force)
        message, warnings = _said("issued", issued, now), _warnings(path)
        return Outcome(message=message, warnings=warnings, commands=[_bring(issued)]), [_document(issued, now)]

    return _change(terminal, work)


def renew(terminal: Terminal, path: Path, chosen: Chosen, valid: datetime.timedelta | None) -> int:
    """Renew certificates, and return the exit status."""
    now = _now()

    def work() -> Printed:
        renewal = pki_issue.plan_renewal(path, chosen, now, valid)
        done: list[Issued] = []
        failure = ""
        try:
            done.extend(renewal.carry_out())
        except LvsError as error:
            if not done:
                raise
            failure = error.message
        return _renewed(path, chosen, now, done, [*renewal.refusals, *([failure] if failure else [])])

    return _change(terminal, work)


def show(terminal: Terminal, given: Path | None, pki: Path) -> int:
    """Print a PKI or the certificates of a file, and return the exit status."""
    now = _now()
    try:
        if given is None or is_pki(given):
            found = survey(given or pki, now)
            if terminal.json:
                terminal.document(pki_tables.survey_document(found, now))
            else:
                terminal.lines(pki_tables.survey_lines(found, now))
            return 0
        rows = look_at(given)
    except LvsError as error:
        return _refused(terminal, error)
    if terminal.json:
        terminal.document({"certificates": [pki_tables.row_document(row, now) for row in rows]})
    else:
        terminal.lines(line for row in rows for line in pki_tables.file_lines(row, now))
    return 0


def _renewed(path: Path, chosen: Chosen, now: datetime.datetime, done: Sequence[Issued], failed: list[str]) -> Printed:
    lines = [_said("renewed", each, now) for each in done]
    if not done and not failed:
        when = "" if chosen.everything else f" within {chosen.within.days} days"
        lines = [f"nothing to renew: no certificate in {path} expires{when}"]
    if failed:
        lines = [*failed, f"renewed all the same: {', '.join(str(each.holder) for each in done) or 'nothing'}"]
    outcome = Outcome(
        message="\n".join(lines),
        warnings=_warnings(path) if done else [],
        commands=[_bring(each) for each in done],
    )
    if failed:
        outcome.status = ExitStatus.UNFINISHED if done else ExitStatus.REFUSED
    return outcome, [_document(each, now) for each in done]


def _change(terminal: Terminal, work: Callable[[], Printed]) -> int:
    """Do something that must not be left half done, say how it ended, and return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it takes milliseconds: what has begun comes to its end
    try:
        outcome, certificates = work()
    except LvsError as error:
        return _refused(terminal, error)
    if terminal.json:
        terminal.document({**outcome.as_json(), "certificates": certificates})
    else:
        terminal.outcome(outcome)
    return int(outcome.status)


def _refused(terminal: Terminal, error: LvsError) -> int:
    """Print why nothing came of a command; what is wrong with the command line itself is told by who called."""
    if isinstance(error, InvalidInputError):
        raise error
    outcome = Outcome(status=status_of(error), message=error.message, commands=suggested(error))
    terminal.outcome(outcome)
    return int(outcome.status)


def _said(what: str, issued: Issued, now: datetime.datetime) -> str:
    facts = issued.facts
    at = f" for {' '.join(map(str, facts.addresses))}" if facts.addresses else ""
    return f"{what} {issued.holder}{at} in {issued.directory}: serial {facts.serial}, {pki_tables.expiry(facts, now)}"


def _document(issued: Issued, now: datetime.datetime) -> dict[str, Any]:
    return {"directory": str(issued.directory), **pki_tables.facts_document(issued.facts, now)}


def _warnings(path: Path) -> list[str]:
    if not Folder(path).readable_by_others():
        return []
    return [f"others than its owner can read the CA's key: chmod 600 {_quoted(path / 'ca.key')}"]


def _bring(issued: Issued) -> NextCommand:
    """Return how the files come to where they are used, whether they are the first there or not.

    To an agent's host by way of a directory that only root can enter, so that a key is never readable on its way.
    """
    purpose, directory = f"to bring {issued.holder} to its host", issued.directory.name
    if not issued.holder.kind.is_agent:
        return NextCommand(purpose=purpose, command=f"scp -rp {_quoted(issued.directory)} HOST:")
    install = f"install -D -g lvs-tls -m 0640 -t /etc/lvs/tls {directory}/*"
    there = f"""cd "$(mktemp -d)" && tar -xf - && {install} && rm -r "$PWD\""""
    pack = f"tar -C {_quoted(issued.directory.parent)} -cf - {directory}"
    return NextCommand(purpose=purpose, command=f"{pack} | ssh root@{issued.holder.addresses[0]} '{there}'")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _now() -> datetime.datetime:
    """Return the time as certificates have it: whole seconds of UTC."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
