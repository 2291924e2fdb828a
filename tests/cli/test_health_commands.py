"""lvs health from the words to what is printed and the exit status; directors answer over real gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lvsagent.v1 import destination_pb2, health_pb2

from agent_common import wire
from agent_common.check import Check, HttpCheck, TcpCheck
from agent_common.health import HealthPolicy
from agent_common.virtual_server import parse_key
from agent_common.wire_health import pack_policy, unpack_policy
from cli.check_options import CheckOptions
from cli.errors import ExitStatus
from cli.health_options import HealthOptions, PolicyOptions
from cli.outcome import Outcome
from cli.set_health import set_health
from tests.cli.served_site import Site, serving_site
from tests.cli.stand_in_health_service import StandIn
from tests.hosts import WEB

DNS = parse_key("udp/192.168.0.200:53")


class Checked:
    """A site whose directors check."""

    def __init__(self, site: Site, checks: dict[str, StandIn]) -> None:
        self.site = site
        self.checks = checks

    @property
    def first(self) -> StandIn:
        return self.checks["d1"]

    async def set(self, kind: str = "", *, dry_run: bool = False, **fields: object) -> Outcome:
        options = HealthOptions(check=CheckOptions(kind=kind), policy=PolicyOptions(fields=fields))
        return await set_health(WEB, options, await self.site.run(dry_run=dry_run))

    def policies(self) -> list[HealthPolicy | None]:
        found = (each.policies.get(WEB) for each in self.checks.values())
        return [each if each is None else unpack_policy(each) for each in found]


@pytest.fixture(params=[1])
async def checked(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Checked]:
    checks = {f"d{number}": StandIn() for number in range(1, request.param + 1)}
    async with serving_site(
        tmp_path,
        directors=request.param,
        further=lambda name: [checks[name].service()] if name in checks else [],
    ) as site:
        yield Checked(site, checks)


two_directors = pytest.mark.parametrize("checked", [2], indirect=True)

TCP = HealthPolicy(check=Check(kind=TcpCheck()))


class TestSet:
    """From what is there, on every director."""

    async def test_the_first_policy_has_the_defaults(self, checked: Checked) -> None:
        outcome = await checked.set("tcp")
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, f"done: set the health checks of {WEB}")
        assert checked.policies() == [TCP]

    async def test_what_is_not_given_stays_and_the_same_again_is_nothing_to_do(self, checked: Checked) -> None:
        await checked.set("http", quorum=2)
        outcome = await checked.set(slow_start=9.0)
        expected = HealthPolicy(check=Check(kind=HttpCheck()), quorum=2, slow_start=9.0)
        assert (outcome.status, checked.policies()) == (ExitStatus.DONE, [expected])
        again = await checked.set(slow_start=9.0)
        assert (again.status, again.message) == (
            ExitStatus.DONE,
            f"nothing to do: set the health checks of {WEB}",
        )

    async def test_a_dry_run_shows_what_would_be_done(self, checked: Checked) -> None:
        outcome = await checked.set("tcp", dry_run=True)
        assert (outcome.status, checked.policies()) == (ExitStatus.DONE, [None])
        assert f"   - check {WEB}" in outcome.plan

    async def test_without_a_policy_there_must_be_a_check(self, checked: Checked) -> None:
        outcome = await checked.set(quorum=2)
        assert (outcome.status, outcome.message) == (
            ExitStatus.USAGE,
            "check: must be given: there are no health checks yet",
        )

    async def test_who_comes_between_is_read_again_and_nothing_of_theirs_is_lost(self, checked: Checked) -> None:
        await checked.set("tcp")
        changed = iter([pack_policy(HealthPolicy(check=Check(kind=TcpCheck(), fall=9)))])

        def meanwhile() -> None:
            for each in changed:
                checked.first.policies[WEB] = each

        checked.first.before_set = meanwhile
        outcome = await checked.set(quorum=3)
        assert outcome.status is ExitStatus.DONE
        assert checked.policies() == [HealthPolicy(check=Check(kind=TcpCheck(), fall=9), quorum=3)]

    @two_directors
    async def test_every_director_gets_it(self, checked: Checked) -> None:
        outcome = await checked.set("tcp", quorum=2)
        assert outcome.status is ExitStatus.DONE
        first, second = checked.policies()
        assert first == second == HealthPolicy(check=Check(kind=TcpCheck()), quorum=2)
        assert outcome.warnings == []

    @two_directors
    async def test_each_director_keeps_what_it_has_and_a_difference_is_told(self, checked: Checked) -> None:
        checked.checks["d2"].policies[WEB] = pack_policy(HealthPolicy(check=Check(kind=TcpCheck(), rise=7)))
        outcome = await checked.set("tcp")
        assert outcome.status is ExitStatus.DONE
        assert [each and each.check.rise for each in checked.policies()] == [2, 7]
        assert len(outcome.warnings) == 1
        assert "will check in another way than" in outcome.warnings[0]

    @two_directors
    async def test_one_that_lacks_what_must_be_there_is_named_and_nothing_is_changed(self, checked: Checked) -> None:
        checked.checks["d2"].policies[WEB] = pack_policy(TCP)
        outcome = await checked.set(quorum=2)
        assert outcome.status is ExitStatus.USAGE
        assert outcome.message.endswith("d1.sock: check: must be given: there are no health checks yet")
        assert checked.policies() == [None, TCP]


async def lvs(checked: Checked, *words: str) -> tuple[int, str, str]:
    """Run the command in a process of its own against the directors that are served here."""
    directors = [word for name in checked.checks for word in ("--director", f"unix:{checked.site.served.path(name)}")]
    ended = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from cli.__main__ import program; program()",
        *directors,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XDG_CONFIG_HOME": "/nonexistent", "NO_COLOR": "1"},
    )
    said, told = await ended.communicate()
    return ended.returncode or 0, said.decode(), told.decode()


class TestCommand:
    """In a process of its own."""

    async def test_set_show_log_and_remove(self, checked: Checked) -> None:
        ended = await lvs(checked, "health", "set", str(WEB), "--check", "http", "--path", "/health", "--interval", "2")
        assert ended[:2] == (0, f"done: set the health checks of {WEB}\n")
        checked.first.destinations = [_down()]
        checked.first.whole = health_pb2.VirtualServerHealth(alarm="1 of 1 destinations are down")
        status, said, _ = await lvs(checked, "health", "show", str(WEB))
        assert status == 0
        assert said.splitlines()[0].startswith(f"{WEB}  ALARM: 1 of 1 destinations are down")
        assert "connection refused" in said
        status, said, _ = await lvs(checked, "health", "remove", str(WEB))
        assert (status, said) == (0, f"done: end the health checks of {WEB}\n")
        assert await lvs(checked, "health", "show") == (0, "nothing is checked\n", "")
        status, _, told = await lvs(checked, "health", "show", str(WEB))
        assert (status, f"{WEB} has no health checks" in told) == (13, True)

    async def test_show_and_status_are_json_too(self, checked: Checked) -> None:
        checked.first.policies.update({WEB: pack_policy(TCP), DNS: pack_policy(TCP)})
        status, said, _ = await lvs(checked, "--output", "json", "health", "show")
        (agent,) = json.loads(said)["agents"]
        assert [each["policy"]["check"]["interval"] for each in agent["answer"]] == ["5s", "5s"]
        checked.first.whole = health_pb2.VirtualServerHealth(alarm="look at it")
        status, said, _ = await lvs(checked, "status")
        assert (status, said.count("ALARM: ")) == (0, 2)
        assert f"  ALARM: {WEB}: look at it" in said.splitlines()

    @two_directors
    async def test_the_log_has_the_newest_of_all_directors_first(self, checked: Checked) -> None:
        for number, stand_in in enumerate(checked.checks.values()):
            stand_in.events = [_event(10 * each + number) for each in range(4, 0, -1)]
        status, said, _ = await lvs(checked, "health", "log", str(WEB), "--limit", "3")
        lines = said.splitlines()
        assert (status, lines[0].split()[:3]) == (0, ["TIME", "(UTC)", "DIRECTOR"])
        assert [line.split()[1] for line in lines[1:]] == [f"00:00:{each}" for each in (41, 40, 31, 30, 21, 20)]
        status, said, _ = await lvs(checked, "--output", "json", "health", "log")
        assert [len(each["answer"]) for each in json.loads(said)["agents"]] == [4, 4]

    async def test_a_log_without_events(self, checked: Checked) -> None:
        assert await lvs(checked, "health", "log") == (0, "nothing has happened, as far as is remembered\n", "")


async def test_an_agent_that_knows_no_checks_is_no_failure_of_status(tmp_path: Path) -> None:
    async with serving_site(tmp_path) as site:
        status, said, told = await lvs(Checked(site, {"d1": StandIn()}), "status")
        assert (status, told) == (0, "")
        assert "ALARM" not in said


def _down() -> destination_pb2.DestinationStatus:
    status = destination_pb2.DestinationStatus(
        destination=destination_pb2.Destination(
            key=destination_pb2.DestinationKey(address="192.168.0.104", port=80),
            forwarding_method=destination_pb2.FORWARDING_METHOD_DIRECT_ROUTING,
            weight=5,
        )
    )
    status.health.verdict = destination_pb2.VERDICT_DOWN
    status.health.detail = "connection refused"
    status.health.checked.FromSeconds(1)
    return status


def _event(second: int) -> health_pb2.HealthEvent:
    event = health_pb2.HealthEvent(kind=health_pb2.HEALTH_EVENT_KIND_DOWN, virtual_server=wire.pack_key(WEB))
    event.time.FromSeconds(second)
    return event
