"""A PKI for each test that wants one."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from cli.pki_issue import init, issue
from cli.pki_request import parse_agent, parse_user
from tests.cli.pki import DAY, Pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """A directory that is not there yet, below one that is not there either."""
    return Pki(path=tmp_path / "site/pki")


@pytest.fixture
def site(pki: Pki) -> Pki:
    """A CA, a director's agent, and an administrator; without a process for each, of which there would be hundreds."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    init(pki.path, "lvs.internal", now, 3650 * DAY, force=False)
    for holder in (parse_agent("lb1", ["192.168.0.10"], "director"), parse_user("ada", "admin")):
        issue(pki.path, holder, now, 365 * DAY, force=False)
    return pki
