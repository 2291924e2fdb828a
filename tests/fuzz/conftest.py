"""--fuzz, for minutes of random input in place of a few seconds; and the seed, so that a run can be repeated."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.fuzzing import Fuzz

SEED = random.SystemRandom().randrange(1 << 32)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only where these tests are named: `python -m pytest tests/fuzz --fuzz 1200` (make fuzz)."""
    parser.addoption("--fuzz", type=float, default=0.0, metavar="SECONDS", help="go on for so long, all tests together")
    parser.addoption("--fuzz-seed", type=int, default=SEED, help="begin with this seed")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this is make fuzz, which may take its time."""
    return bool(request.config.getoption("--fuzz", default=0.0))


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """What runs a check on random input, until this test's share of the time is over."""
    sharing = sum("fuzz" in getattr(each, "fixturenames", ()) for each in request.session.items)
    seconds = request.config.getoption("--fuzz", default=0.0) / max(sharing, 1)
    return Fuzz(seconds=seconds, seed=request.config.getoption("--fuzz-seed", default=SEED))
