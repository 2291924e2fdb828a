"""A PKI for each test that wants one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.pki import Pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """A directory that is not there yet, below one that is not there either."""
    return Pki(path=tmp_path / "site/pki")


@pytest.fixture
def site(pki: Pki) -> Pki:
    """A CA, a director's agent, and an administrator."""
    pki.init()
    pki.done("issue", "agent", "lb1", "--role", "director", "--address", "192.168.0.10")
    pki.done("issue", "user", "ada", "--role", "admin")
    return pki
