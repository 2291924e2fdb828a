"""--wide, for bounds that take minutes."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only where these tests are named: `python -m pytest tests/protocol --wide` (make faults)."""
    parser.addoption("--wide", action="store_true", help="explore the protocol in its wide bounds, too: some minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave wide bounds out, unless they are asked for: then only they run."""
    wide = config.getoption("--wide", default=False)
    items[:] = [each for each in items if not each.nodeid.startswith("tests/protocol") or ("wide" in each.name) == wide]
