"""The gate of add-backend over real gRPC: all of it, or a failure with the check's own reason and nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent_common.check import Check, TcpCheck
from agent_common.checker import Answer
from agent_common.fake_checker import FAILED, PASSED
from agent_common.health import HealthPolicy
from cli.errors import ExitStatus
from cli.outcome import StepResult
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2, table
from tests.hosts import WEB

POLICY = HealthPolicy(check=Check(kind=TcpCheck(), interval=0.1, timeout=0.1))


@pytest.fixture(params=[1])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving_site(tmp_path, directors=request.param) as made:
        assert (await made.add(RS1)).status is ExitStatus.DONE
        for host in made.directors:
            host.health.set_policy(WEB, POLICY)
        yield made


two_directors = pytest.mark.parametrize("site", [2], indirect=True)


async def until_asked(site: Site, times: int) -> None:
    """Wait, at most 5 s, until a director has checked the second real server so often."""
    for _ in range(250):
        if site.director.checker.asked[ip_address(RS2)] >= times:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it was not checked")


async def test_one_that_passes_is_added_and_begins_as_up(site: Site) -> None:
    outcome = await site.add(RS2, ready_timeout=5.0)
    assert outcome.status is ExitStatus.DONE
    assert site.director.checker.asked[ip_address(RS2)] == 2
    assert site.director.health.stood(WEB) == {}


async def test_one_that_is_not_waited_for_begins_as_down(site: Site) -> None:
    outcome = await site.add(RS2)
    assert outcome.status is ExitStatus.DONE
    assert any(f"{RS2}:80 begins as down" in each for each in outcome.warnings)
    (status,) = [each for each in site.director.destinations.list_all(WEB) if str(each.destination.key.address) == RS2]
    assert (status.is_out, status.current_weight, status.destination.weight) == (True, 0, 1)


async def test_one_that_fails_is_taken_back_with_the_reason_of_its_check(site: Site) -> None:
    before = site.snapshot()
    site.director.checker.answers[ip_address(RS2)] = Answer(passed=False, detail="503, not 200 to 299")
    outcome = await site.add(RS2, ready_timeout=1.0)
    assert outcome.status is ExitStatus.ROLLED_BACK
    assert (
        f"wait until the check of {RS2}:80 passes: it has not passed within 1 s: 503, not 200 to 299" in outcome.message
    )
    assert site.snapshot() == before


async def test_an_application_that_starts_late_is_waited_for(site: Site) -> None:
    site.director.checker.answers[ip_address(RS2)] = FAILED
    adding = asyncio.ensure_future(site.add(RS2, ready_timeout=10.0))
    await until_asked(site, 3)
    site.director.checker.answers[ip_address(RS2)] = PASSED
    assert (await adding).status is ExitStatus.DONE
    assert table(site.director, WEB).keys() == {f"{RS1}:80", f"{RS2}:80"}


async def test_without_time_it_is_asked_as_often_as_must_pass(site: Site) -> None:
    site.director.checker.answers[ip_address(RS2)] = FAILED
    outcome = await site.add(RS2, ready_timeout=0.0)
    assert outcome.status is ExitStatus.ROLLED_BACK
    assert "passes: it has not passed: connection refused" in outcome.message
    assert site.director.checker.asked[ip_address(RS2)] == 2


@two_directors
async def test_what_one_director_cannot_reach_no_director_gets(site: Site) -> None:
    before = site.snapshot()
    site.directors[1].checker.answers[ip_address(RS2)] = FAILED
    outcome = await site.add(RS2, ready_timeout=1.0)
    assert outcome.status is ExitStatus.ROLLED_BACK
    assert "d2.sock: wait until" in outcome.message
    assert site.snapshot() == before


async def test_who_interrupts_the_wait_finds_everything_as_it_was(site: Site) -> None:
    before = site.snapshot()
    site.director.checker.answers[ip_address(RS2)] = FAILED
    adding = asyncio.ensure_future(site.add(RS2, ready_timeout=60.0))
    await until_asked(site, 1)
    site.interrupt.set()
    outcome = await adding
    assert outcome.status is ExitStatus.ROLLED_BACK
    assert outcome.message.startswith("interrupted before: ")
    assert site.snapshot() == before


async def test_a_dry_run_shows_the_step(site: Site) -> None:
    outcome = await site.add(RS2, ready_timeout=5.0, dry_run=True)
    assert any(line.endswith(f": wait until the check of {RS2}:80 passes") for line in outcome.plan)
    assert not site.director.checker.asked


async def test_what_passed_is_reported_with_its_answer(site: Site) -> None:
    site.director.checker.answers[ip_address(RS2)] = Answer(passed=True, detail="200")
    outcome = await site.add(RS2, ready_timeout=5.0)
    (step,) = [each for each in outcome.steps if each.title.startswith("wait until the check")]
    assert (step.result, step.details) == (StepResult.DONE, ("200",))
