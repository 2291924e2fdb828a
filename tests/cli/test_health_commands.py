"""lvs health from the words to what is printed and the exit status; directors answer over real gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from lvsagent.v1 import health_pb2

from agent_common.check import Check, HttpCheck, TcpCheck
from agent_common.errors import Reason, RefusedError
from agent_common.fake_checker import FAILED
from agent_common.health import Effect, HealthPolicy, Start
from agent_common.virtual_server import VirtualServer, VirtualServerKey, parse_key
from agent_director.health_log import HealthLog, open_events
from cli import operations
from cli.check_options import CheckOptions
from cli.errors import ExitStatus
from cli.health_options import HealthOptions, PolicyOptions
from cli.outcome import Outcome, StepReport
from cli.set_health import set_health
from tests.cli.program import lvs, said
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2
from tests.hosts import VIP, WEB, DirectorHost
from tests.serving import Served, served, services, serving

DNS = parse_key("udp/192.168.0.200:53")


TCP = HealthPolicy(check=Check(kind=TcpCheck()))
FAST = ("--check", "tcp", "--interval", "0.1", "--fall", "1", "--rise", "1")


@pytest.fixture(params=[1])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving_site(tmp_path, directors=request.param) as made:
        for host in made.directors:
            await host.changes.apply(operations.create_whole_virtual_server(VirtualServer(key=WEB)), "")
        yield made


two_directors = pytest.mark.parametrize("site", [2], indirect=True)


async def change(site: Site, kind: str = "", *, dry_run: bool = False, **fields: Any) -> Outcome:
    """Do what lvs health set does."""
    options = HealthOptions(check=CheckOptions(kind=kind), policy=PolicyOptions(fields=fields))
    return await set_health(WEB, options, await site.run(dry_run=dry_run))


def policies(site: Site) -> list[HealthPolicy | None]:
    return [host.health.policy(WEB) for host in site.directors]


class TestSet:
    """From what is there, on every director."""

    async def test_the_first_policy_has_the_defaults(self, site: Site) -> None:
        outcome = await change(site, "tcp")
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, f"done: set the health checks of {WEB}")
        assert policies(site) == [TCP]

    async def test_what_is_not_given_stays_and_the_same_again_is_nothing_to_do(self, site: Site) -> None:
        await change(site, "http", quorum=2)
        outcome = await change(site, slow_start=9.0)
        expected = HealthPolicy(check=Check(kind=HttpCheck()), quorum=2, slow_start=9.0)
        assert (outcome.status, policies(site)) == (ExitStatus.DONE, [expected])
        again = await change(site, slow_start=9.0)
        assert (again.status, again.message) == (ExitStatus.DONE, f"nothing to do: set the health checks of {WEB}")

    async def test_a_dry_run_shows_what_would_be_done(self, site: Site) -> None:
        outcome = await change(site, "tcp", dry_run=True)
        assert (outcome.status, policies(site)) == (ExitStatus.DONE, [None])
        assert f"   - check {WEB} by tcp" in outcome.plan

    async def test_without_a_policy_there_must_be_a_check(self, site: Site) -> None:
        outcome = await change(site, quorum=2)
        assert (outcome.status, outcome.message) == (
            ExitStatus.USAGE,
            "check: must be given: there are no health checks yet",
        )

    async def test_without_the_virtual_server_that_is_what_is_said(self, site: Site) -> None:
        await site.director.changes.apply(operations.delete_virtual_server(WEB), "")
        outcome = await change(site, quorum=2)
        assert outcome.status is ExitStatus.REFUSED
        assert f"there is no virtual server {WEB}" in outcome.message

    async def test_of_those_who_change_it_at_once_nothing_is_lost(self, site: Site) -> None:
        """Each reads what the others have set, if they came between."""
        await change(site, "tcp")
        wanted: dict[str, Any] = {"quorum": 3, "slow_start": 9.0, "max_changes": 7, "start": Start.UP}
        outcomes = await asyncio.gather(*(change(site, **{name: value}) for name, value in wanted.items()))
        assert [each.status for each in outcomes] == [ExitStatus.DONE] * 4
        assert policies(site) == [HealthPolicy(check=Check(kind=TcpCheck()), **wanted)]

    @two_directors
    async def test_every_director_gets_it(self, site: Site) -> None:
        outcome = await change(site, "tcp", quorum=2)
        assert (outcome.status, outcome.warnings) == (ExitStatus.DONE, [])
        assert policies(site) == [HealthPolicy(check=Check(kind=TcpCheck()), quorum=2)] * 2

    @two_directors
    async def test_each_director_keeps_what_it_has_and_a_difference_is_told(self, site: Site) -> None:
        site.directors[1].health.set_policy(WEB, HealthPolicy(check=Check(kind=TcpCheck(), rise=7)))
        outcome = await change(site, "tcp")
        assert outcome.status is ExitStatus.DONE
        assert [each and each.check.rise for each in policies(site)] == [2, 7]
        assert len(outcome.warnings) == 1
        assert "will check in another way than" in outcome.warnings[0]

    @two_directors
    async def test_one_that_lacks_what_must_be_there_is_named_and_nothing_is_changed(self, site: Site) -> None:
        site.directors[1].health.set_policy(WEB, TCP)
        outcome = await change(site, quorum=2)
        assert outcome.status is ExitStatus.USAGE
        assert outcome.message.endswith("d1.sock: check: must be given: there are no health checks yet")
        assert policies(site) == [None, TCP]

    @two_directors
    async def test_what_the_second_cannot_do_the_first_does_not_keep(self, site: Site) -> None:
        """What failed after it was planned: the disk is full by then."""
        await change(site, "tcp")
        steps: list[StepReport] = []

        def fill(step: StepReport) -> None:
            steps.append(step)
            site.directors[1].state.full = True

        options = HealthOptions(check=CheckOptions(), policy=PolicyOptions(fields={"quorum": 2}))
        outcome = await set_health(WEB, options, replace(await site.run(), on_step=fill))
        assert outcome.status is ExitStatus.ROLLED_BACK
        assert policies(site) == [TCP, TCP]


async def until_said(site: Site, text: str, *words: str) -> str:
    """Return what a command prints as soon as a text is in it, within 10 s."""
    for _ in range(20):
        if text in (out := await said(site, *words)):
            return out
        await asyncio.sleep(0.2)
    raise AssertionError(f"{text!r} is not in {out}")


@pytest.fixture
async def checking(site: Site) -> AsyncIterator[Site]:
    """A site with two real servers, whose directors check."""
    outcome = await site.add(RS1, RS2, weight=5)
    assert outcome.status is ExitStatus.DONE
    tasks = [asyncio.ensure_future(host.health_watch.follow()) for host in site.directors]
    yield site
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestCommand:
    """In a process of its own, against directors that check."""

    async def test_what_is_down_is_shown_with_its_alarm_and_comes_back_when_the_checks_end(
        self, checking: Site
    ) -> None:
        ended = await said(checking, "health", "set", str(WEB), *FAST, "--floor", "2")
        assert ended == f"done: set the health checks of {WEB}\n"
        checking.director.checker.answers[ip_address(RS1)] = FAILED
        text = await until_said(checking, "ALARM", "health", "show", str(WEB))
        assert text.startswith(f"{WEB}  ALARM: ")
        assert "connection refused" in text
        status = await said(checking, "status")
        assert f"  ALARM: {WEB}: " in status
        assert "DRIFT" not in status
        await said(checking, "health", "set", str(WEB), "--floor", "0")
        out = await until_said(checking, "  out ", "status")
        (row,) = (line.split() for line in out.splitlines() if RS1 in line)
        assert row[:4] == [f"{RS1}:80", "dr", "5", "0"]
        assert "DRIFT" not in out
        assert f"-r {RS1}:80 -g -w 5" in await said(checking, "save")
        assert await said(checking, "health", "remove", str(WEB)) == f"done: end the health checks of {WEB}\n"
        await until_said(checking, "nothing is checked", "health", "show")
        assert (await until_said(checking, "serving", "status")).count("serving") == 2

    async def test_a_saved_table_brings_them_back(self, checking: Site, tmp_path: Path) -> None:
        await change(checking, "http", quorum=2, effect=Effect.REMOVE)
        before = policies(checking)
        rules, _, told = await lvs(checking, "save")
        assert (rules, "virtual servers with health checks, which these rules cannot say: 1" in told) == (0, True)
        saved = tmp_path / "table.json"
        saved.write_text(await said(checking, "--output", "json", "save"))
        assert f"   - check {WEB} no more" in await said(checking, "flush", "--dry-run")
        flushed = await lvs(checking, "flush", "--yes")
        assert (flushed[0], policies(checking)) == (0, [None])
        shown = await said(checking, "restore", "--dry-run", str(saved))
        assert f"   - check {WEB}: http GET /, every 5 s; effect remove, quorum 2\n" in shown
        await said(checking, "restore", str(saved))
        assert policies(checking) == before
        assert "nothing to do" in await said(checking, "restore", "--replace", str(saved))

    async def test_a_saved_table_that_lacks_them_is_no_success(
        self, checking: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who keeps a copy every night must not have a whole one overwritten by it."""
        await change(checking, "tcp")

        def refuse() -> list[VirtualServerKey]:
            raise RefusedError("the journal is corrupt (a flipped bit)", Reason.JOURNAL_CORRUPT)

        monkeypatch.setattr(checking.director.healths, "keys", refuse)
        status, out, told = await lvs(checking, "--output", "json", "save")
        assert (status, len(json.loads(out)["entries"])) == (13, 1)
        assert "health checks are not saved: the journal is corrupt (a flipped bit)" in told
        status, out, told = await lvs(checking, "save")
        assert (status, out.splitlines()[0], "not saved" in told) == (0, f"-A -t {VIP}:80 -s wlc", True)

    async def test_the_policy_of_what_has_none_is_refused(self, site: Site) -> None:
        status, _, told = await lvs(site, "health", "show", str(WEB))
        assert (status, f"{WEB} has no health checks" in told) == (13, True)

    async def test_show_is_json_too(self, site: Site) -> None:
        await change(site, "tcp")
        (agent,) = json.loads(await said(site, "--output", "json", "health", "show"))["agents"]
        assert [each["policy"]["check"]["interval"] for each in agent["answer"]] == ["5s"]


async def test_the_log_has_the_newest_of_all_directors_first(tmp_path: Path) -> None:
    hosts = {f"d{number}": DirectorHost() for number in (1, 2)}
    for number, (name, host) in enumerate(hosts.items()):
        (tmp_path / name).mkdir()
        host.health_log = HealthLog(open_events(tmp_path / name))
        for tens in range(1, 5):
            host.health_log.tell(health_pb2.HEALTH_EVENT_KIND_DOWN, WEB, None, "x", 10 * tens + number)
    async with serving(tmp_path, hosts) as agents:
        site = Site(agents, dict(hosts))
        lines = (await said(site, "health", "log", str(WEB), "--limit", "3")).splitlines()
        assert lines[0].split()[:3] == ["TIME", "(UTC)", "DIRECTOR"]
        assert [line.split()[1] for line in lines[1:]] == [f"00:00:{each}" for each in (41, 40, 31, 30, 21, 20)]
        document = json.loads(await said(site, "--output", "json", "health", "log"))
        assert [len(each["answer"]) for each in document["agents"]] == [4, 4]
        assert "nothing has happened" in await said(site, "health", "log", str(DNS))


async def test_an_agent_that_knows_no_checks_is_no_failure_of_status(tmp_path: Path) -> None:
    host = DirectorHost()
    older = [each for each in services(host) if each.descriptor.name != "HealthService"]
    async with AsyncExitStack() as stack:
        site = Site(Served(tmp_path, stack), {"d1": host})
        await stack.enter_async_context(served(site.served.path("d1"), older))
        status, _, told = await lvs(site, "status")
        assert (status, told) == (0, "")
        status, _, told = await lvs(site, "health", "show")
        assert (status, "is not an agent of this kind" in told) == (14, True)
