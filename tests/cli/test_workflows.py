"""Whole workflows from the request to the exit status; agents answer over real gRPC, from fakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent_common.sockets import Listener
from agent_common.vip import VipMode
from agent_common.virtual_server import Protocol, VirtualServer
from agent_director.fake_ipvs import FakeIpvs
from agent_realserver.arp import ArpName
from cli.add_backend import add_backend
from cli.errors import ExitStatus
from cli.outcome import StepReport, StepResult
from cli.plan import Plan
from cli.request import AddBackend, SetWeight
from cli.set_weight import set_weight
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2, backend, table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost
from tests.serving import Served


@pytest.fixture(params=[1])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving_site(tmp_path, directors=request.param) as made:
        yield made


async def until(condition: Callable[[], bool]) -> None:
    """Wait, at most 5 s, until something is so."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


two_directors = pytest.mark.parametrize("site", [2], indirect=True)


class TestAdd:
    """All of it, on both sides, or none of it."""

    async def test_it_ends_with_0_and_everything_in_place(self, site: Site) -> None:
        outcome = await site.add(RS1, RS2, weight=7)
        assert (outcome.status, outcome.message) == (
            ExitStatus.DONE,
            f"{RS1}:80, {RS2}:80 added behind {WEB}",
        )
        assert {key: each.weight for key, each in table(site.director, WEB).items()} == {f"{RS1}:80": 7, f"{RS2}:80": 7}
        assert site.director.vips.get(VIP).present
        assert all(site.rs(each).vips.get(VIP).present for each in (RS1, RS2))

    async def test_again_it_finds_everything_in_place(self, site: Site) -> None:
        await site.add(RS1)
        before = site.snapshot()
        outcome = await site.add(RS1)
        assert (outcome.status, [step.result for step in outcome.steps]) == (ExitStatus.DONE, [StepResult.IN_PLACE])
        assert outcome.message == f"nothing to do: {RS1}:80 in place behind {WEB}"
        assert site.snapshot() == before

    async def test_a_dry_run_changes_nothing_and_returns_the_plan(self, site: Site) -> None:
        before = site.snapshot()
        outcome = await site.add(RS1, dry_run=True)
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, "dry run: nothing was changed")
        assert outcome.plan[0] == f"1. real server {RS1}: prepare VIP 192.168.0.200 on lo"
        assert site.snapshot() == before

    async def test_a_scheduler_that_cannot_be_loaded_is_10_and_leaves_no_trace(self, site: Site) -> None:
        before = site.snapshot()
        site.director.ipvs.schedulers = frozenset({"rr"})
        outcome = await site.add(RS1)
        assert outcome.status is ExitStatus.ROLLED_BACK
        assert "cannot load scheduler wlc" in outcome.message
        assert outcome.message.endswith("; everything is as it was before")
        assert site.snapshot() == before

    async def test_an_application_that_does_not_come_is_10_and_leaves_no_trace(self, site: Site) -> None:
        before = site.snapshot()
        request = AddBackend(backend=backend(RS1, protocol="udp"), ready_timeout=0.1)
        outcome = await add_backend(request, await site.run())
        assert outcome.status is ExitStatus.ROLLED_BACK
        assert "no UDP socket is bound to port 80" in outcome.message
        assert site.snapshot() == before

    async def test_an_application_that_is_there_lets_it_go_on(self, site: Site) -> None:
        site.rs(RS1).sockets.bound.append(Listener(protocol=Protocol.UDP, address=VIP, port=80))
        outcome = await add_backend(AddBackend(backend=backend(RS1, protocol="udp")), await site.run())
        assert outcome.status is ExitStatus.DONE

    async def test_what_a_host_forbids_is_13_before_anything_is_changed(self, site: Site) -> None:
        before = site.snapshot()
        site.rs(RS2).sysctls.write("eth0", ArpName.IGNORE, 3)
        outcome = await site.add(RS1, RS2)
        assert (outcome.status, outcome.steps) == (ExitStatus.REFUSED, [])
        assert outcome.message.endswith("; nothing was changed")
        site.rs(RS2).sysctls.write("eth0", ArpName.IGNORE, 0)
        assert site.snapshot() == before

    @pytest.mark.parametrize("gone", ["d1", RS2])
    async def test_an_agent_that_cannot_be_reached_is_14_before_anything_is_changed(
        self, site: Site, gone: str
    ) -> None:
        before = site.snapshot()
        await site.served.kill(gone)
        outcome = await site.add(RS1, RS2)
        assert (outcome.status, outcome.steps) == (ExitStatus.UNREACHABLE, [])
        assert "cannot connect to" in outcome.message
        assert site.snapshot() == before

    async def test_an_agent_of_the_other_kind_is_14(self, site: Site, tmp_path: Path) -> None:
        await site.served.kill(RS1)
        async with AsyncExitStack() as stack:
            other = Served(tmp_path, stack)
            await other.start(RS1, DirectorHost())
            outcome = await site.add(RS1)
        assert outcome.status is ExitStatus.UNREACHABLE
        assert "is a director's" in outcome.message

    async def test_a_wish_to_stop_before_the_first_change_is_10(self, site: Site) -> None:
        site.interrupt.set()
        outcome = await site.add(RS1)
        assert (outcome.status, outcome.message) == (ExitStatus.ROLLED_BACK, "interrupted; nothing was changed")

    async def test_a_wish_to_stop_in_the_midst_takes_everything_back(self, site: Site) -> None:
        before = site.snapshot()
        request = AddBackend(backend=backend(RS1, protocol="udp"), ready_timeout=60)
        working = asyncio.ensure_future(add_backend(request, await site.run()))
        await until(lambda: bool(site.rs(RS1).vips.list_all()))
        site.interrupt.set()
        outcome = await asyncio.wait_for(working, 2)
        assert outcome.status is ExitStatus.ROLLED_BACK
        assert outcome.message.startswith("interrupted before: ")
        assert site.snapshot() == before

    async def test_an_agent_that_is_gone_at_the_undo_is_11_and_says_what_is_left(self, site: Site) -> None:
        request = AddBackend(backend=backend(RS1, protocol="udp"), ready_timeout=60)
        working = asyncio.ensure_future(add_backend(request, await site.run()))
        await until(lambda: bool(site.rs(RS1).vips.list_all()))
        await site.served.kill(RS1)
        outcome = await asyncio.wait_for(working, 5)
        assert outcome.status is ExitStatus.UNFINISHED
        assert "not everything could be taken back" in outcome.message
        assert any(f"left on real server {RS1}" in warning for warning in outcome.warnings)
        assert [each.command for each in outcome.commands] == [f"lvs txn resolve {outcome.transaction} --wait"]

    async def test_a_wish_to_stop_while_an_agent_is_read_ends_at_once(self, site: Site) -> None:
        """10, and nothing was changed; the agent that stands still is not waited for."""
        before = site.snapshot()
        await site.served.kill("d1")
        path = site.served.path("d1")
        async with await asyncio.start_unix_server(lambda reader, writer: asyncio.sleep(60), path):
            site.timeout = 30.0
            working = asyncio.ensure_future(site.add(RS1))
            await asyncio.sleep(0.2)
            assert not working.done()
            site.interrupt.set()
            outcome = await asyncio.wait_for(working, 2)
        assert (outcome.status, outcome.message) == (ExitStatus.ROLLED_BACK, "interrupted; nothing was changed")
        assert site.snapshot() == before

    @two_directors
    async def test_after_the_authority_has_the_destination_the_other_director_only_follows(self, site: Site) -> None:
        """Clients are there by then: no undo takes it away again; its agent goes on trying."""
        second = site.hosts["d2"]
        assert isinstance(second, DirectorHost)

        def lose(step: StepReport) -> None:
            if step.title.startswith(f"add {RS1}") and step.result is StepResult.DONE:
                second.ipvs.remove_virtual_server(WEB)
                second.ipvs.schedulers = frozenset()

        request = AddBackend(backend=backend(RS1), ready_timeout=None)
        outcome = await add_backend(request, replace(await site.run(), on_step=lose))
        second.ipvs.schedulers = FakeIpvs().schedulers
        assert outcome.status is ExitStatus.UNFINISHED
        assert outcome.message.startswith("decided, but not yet done everywhere: director ")
        assert [each.command for each in outcome.commands] == [f"lvs txn resolve {outcome.transaction} --wait"]
        assert table(site.director, WEB).keys() == {f"{RS1}:80"}
        assert (await site.add(RS1)).status is ExitStatus.DONE
        assert table(second, WEB).keys() == {f"{RS1}:80"}

    async def test_an_agent_of_another_version_is_refused(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        before = site.snapshot()
        monkeypatch.setattr("agent_common.host_service.VERSION", "0.2.0")
        outcome = await site.add(RS1)
        assert outcome.status is ExitStatus.REFUSED
        assert "runs lvs-agents 0.2.0" in outcome.message
        assert site.snapshot() == before

    @two_directors
    async def test_on_several_directors_it_is_everywhere_or_nowhere(self, site: Site) -> None:
        before = site.snapshot()
        second = site.hosts["d2"]
        assert isinstance(second, DirectorHost)
        second.ipvs.schedulers = frozenset()
        assert (await site.add(RS1)).status is ExitStatus.ROLLED_BACK
        assert site.snapshot() == before
        second.ipvs.schedulers = FakeIpvs().schedulers
        assert (await site.add(RS1)).status is ExitStatus.DONE
        assert table(second, WEB).keys() == table(site.director, WEB).keys() == {f"{RS1}:80"}

    @two_directors
    async def test_a_vip_that_two_directors_would_answer_for_is_2(self, site: Site) -> None:
        """Whether the option says so or the settings do."""
        by_option = await site.add(RS1, vip_mode=VipMode.AGENT)
        request = AddBackend(backend=backend(RS1), ready_timeout=None)
        run = await site.run()
        site_of_settings = run.clients.site
        run.clients.site = type(site_of_settings)(
            directors=site_of_settings.directors, rs_agents=site_of_settings.rs_agents, vip_mode=VipMode.AGENT
        )
        by_settings = await add_backend(request, run)
        for outcome in (by_option, by_settings):
            assert outcome.status is ExitStatus.USAGE
            assert "two hosts answer for one VIP" in outcome.message

    async def test_every_destination_comes_with_a_vip_that_was_read_back(self, site: Site) -> None:
        """P1: whatever the director serves with weight above 0 has the VIP, silent, on its real server."""
        await site.add(RS1, RS2)
        for address in (RS1, RS2):
            host = site.rs(address)
            assert host.vips.get(VIP).present
            assert host.silence.plan() == []


class TestRemove:
    """Drain, wait, remove, give the VIP back."""

    async def test_both_removed_with_prune_leave_no_trace(self, site: Site) -> None:
        before = site.snapshot()
        await site.add(RS1, RS2)
        outcome = await site.remove(RS1)
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, f"{RS1}:80 removed from {WEB}")
        assert (await site.remove(RS2, prune=True)).status is ExitStatus.DONE
        assert site.snapshot() == before

    async def test_only_what_was_removed_is_said_to_be(self, site: Site) -> None:
        await site.add(RS1)
        site.director.ipvs.add_destination(WEB, destination(RS2))
        outcome = await site.remove(RS1, RS2)
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, f"{RS1}:80 removed from {WEB}")
        assert StepResult.FOREIGN in [step.result for step in outcome.steps]

    async def test_what_is_not_there_on_a_host_without_an_agent_is_0(self, site: Site) -> None:
        """A nat backend that was removed before, from a real server that never had an agent."""
        await site.served.kill(RS1)
        outcome = await site.remove(RS1)
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, "nothing to remove")
        assert [warning.partition(";")[0] for warning in outcome.warnings] == [f"real server {RS1} does not answer"]

    async def test_what_is_not_there_is_0(self, site: Site) -> None:
        outcome = await site.remove(RS1)
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, "nothing to remove")

    async def test_the_last_is_13(self, site: Site) -> None:
        await site.add(RS1)
        assert (await site.remove(RS1)).status is ExitStatus.REFUSED

    async def test_connections_are_waited_for_and_those_that_are_cut_are_said(self, site: Site) -> None:
        await site.add(RS1, RS2)
        site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
        outcome = await site.remove(RS1, drain_timeout=0.2)
        assert outcome.status is ExitStatus.DONE
        assert f"3 connections of {RS1}:80 are cut" in [line for step in outcome.steps for line in step.warnings]

    async def test_a_wish_to_stop_leaves_the_drain_and_says_how_to_go_on(self, site: Site) -> None:
        await site.add(RS1, RS2)
        site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
        working = asyncio.ensure_future(site.remove(RS1))
        await until(lambda: bool(table(site.director, WEB)[f"{RS1}:80"].draining))
        await asyncio.sleep(0.05)
        site.interrupt.set()
        outcome = await asyncio.wait_for(working, 2)
        assert outcome.status is ExitStatus.UNFINISHED
        assert [each.command for each in outcome.commands] == [
            f"lvs txn resolve {outcome.transaction} --wait",
            f"lvs undrain --vip {VIP}:80 --rs {RS1}:80",
        ]
        assert table(site.director, WEB)[f"{RS1}:80"].draining

    async def test_a_removal_that_goes_on_waits_for_the_connections_that_are_left(self, site: Site) -> None:
        """The drain has begun already; that is no reason to cut anybody off."""
        await site.add(RS1, RS2)
        await site.weight(RS1, draining=True)
        site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
        working = asyncio.ensure_future(site.remove(RS1, drain_timeout=30.0))
        await asyncio.sleep(0.4)
        assert table(site.director, WEB).keys() == {f"{RS1}:80", f"{RS2}:80"}
        assert not working.done()
        site.director.ipvs.set_connections(WEB, destination(RS1).key)
        outcome = await asyncio.wait_for(working, 3)
        assert outcome.status is ExitStatus.DONE
        assert table(site.director, WEB).keys() == {f"{RS2}:80"}

    async def test_a_real_server_that_is_gone_is_14_and_names_the_way_out(self, site: Site) -> None:
        await site.add(RS1, RS2)
        before = site.snapshot()
        await site.served.kill(RS1)
        outcome = await site.remove(RS1)
        assert outcome.status is ExitStatus.UNREACHABLE
        assert [each.command.partition(" --no-rs")[1] for each in outcome.commands] == [" --no-rs"]
        assert site.snapshot() == before
        assert (await site.remove(RS1, ask_real_servers=False)).status is ExitStatus.DONE
        assert [address for _, address in site.director.destinations.leftovers()] == [destination(RS1).key.address]

    async def test_whoever_asks_a_real_server_is_told_what_an_earlier_removal_has_left_there(self, site: Site) -> None:
        """As a warning, and as a command to type, which the terminal completes with the options that were given."""
        await site.add(RS1, RS2)
        await site.remove(RS1, ask_real_servers=False)
        outcome = await site.add(RS1, vip=f"{VIP}:443", ready_timeout=None)
        assert outcome.status is ExitStatus.DONE
        assert any(f"{RS1} may still hold the VIP of {WEB}" in warning for warning in outcome.warnings)
        assert [each.command for each in outcome.commands] == [f"lvs remove-backend --vip {VIP}:80 --rs {RS1}"]

    @two_directors
    async def test_a_director_that_is_lost_after_the_decision_leaves_the_vip_and_ends_with_11(self, site: Site) -> None:
        """It may still send clients to that real server."""
        await site.add(RS1, RS2)
        site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
        working = asyncio.ensure_future(site.remove(RS1, drain_timeout=1.0))
        second = site.hosts["d2"]
        assert isinstance(second, DirectorHost)
        await until(lambda: bool(table(second, WEB)[f"{RS1}:80"].draining))
        await site.served.kill("d2")
        outcome = await asyncio.wait_for(working, 5)
        assert outcome.status is ExitStatus.UNFINISHED
        assert "the real servers keep the VIP" in outcome.message
        assert site.rs(RS1).vips.get(VIP).present
        assert table(site.director, WEB).keys() == {f"{RS2}:80"}


class TestWeight:
    """Drain, undrain and weight."""

    async def test_a_drain_and_its_end(self, site: Site) -> None:
        await site.add(RS1, RS2, weight=7)
        assert (await site.weight(RS1, draining=True)).message == f"{RS1}:80 in {WEB}: draining"
        again = await site.weight(RS1, draining=True)
        assert (again.status, again.message) == (ExitStatus.DONE, f"nothing to do: {RS1}:80 in {WEB}: draining")
        assert (await site.weight(RS1, draining=False)).status is ExitStatus.DONE
        assert table(site.director, WEB)[f"{RS1}:80"].weight == 7

    async def test_waiting_for_the_end_of_connections(self, site: Site) -> None:
        await site.add(RS1, RS2)
        site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
        outcome = await site.weight(RS1, draining=True, wait=0.1)
        assert outcome.status is ExitStatus.UNFINISHED
        assert "3 connections are left after 0.1 s" in outcome.message
        site.director.ipvs.set_connections(WEB, destination(RS1).key)
        outcome = await site.weight(RS1, draining=True, wait=5.0)
        assert outcome.status is ExitStatus.DONE
        assert outcome.message.endswith("; no connections are left")

    async def test_what_is_not_there_is_13(self, site: Site) -> None:
        await site.add(RS1)
        outcome = await site.weight(RS2, weight=3)
        assert outcome.status is ExitStatus.REFUSED

    async def test_a_weight_that_somebody_set_since_it_was_read_is_read_again(self, site: Site) -> None:
        await site.add(RS1)
        plans: list[Plan] = []

        def edit(plan: Plan) -> None:
            if not plans:
                site.director.ipvs.edit_destination(WEB, destination(RS1, weight=9))
            plans.append(plan)

        request = SetWeight(backend=backend(RS1), weight=5)
        outcome = await set_weight(request, replace(await site.run(), on_plan=edit))
        assert outcome.status is ExitStatus.DONE
        assert [plan.steps[0].details for plan in plans] == [
            (f"set weight of {RS1}:80 in {WEB} from {before} to 5",) for before in (1, 9)
        ]

    @two_directors
    async def test_what_somebody_has_removed_meanwhile_on_one_director_is_told(self, site: Site) -> None:
        await site.add(RS1, RS2)
        second = site.hosts["d2"]
        assert isinstance(second, DirectorHost)

        def lose(step: StepReport) -> None:
            if step.result is StepResult.DONE:
                second.ipvs.remove_destination(WEB, destination(RS1).key)

        request = SetWeight(backend=backend(RS1), weight=5)
        outcome = await set_weight(request, replace(await site.run(), on_step=lose))
        assert outcome.status is ExitStatus.UNFINISHED
        assert [step.result for step in outcome.steps] == [StepResult.DONE, StepResult.ABSENT]
        assert "changed by hand meanwhile: director " in outcome.message
        assert outcome.message.endswith(f": there is no destination {RS1}:80 in {WEB}")
        assert [each.command for each in outcome.commands] == ["lvs drift"]
        assert table(site.director, WEB)[f"{RS1}:80"].weight == 5

    async def test_a_foreign_destination_on_the_director_itself_is_no_obstacle(self, site: Site) -> None:
        """A sorry server on the loopback address, as other programs add it."""
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.director.ipvs.add_destination(WEB, destination("127.0.0.1"))
        assert (await site.add(RS1)).status is ExitStatus.DONE
        assert (await site.weight(RS1, draining=True)).status is ExitStatus.DONE
        assert (await site.remove(RS1)).status is ExitStatus.DONE
        assert table(site.director, WEB).keys() == {"127.0.0.1:80"}


async def test_an_outcome_as_json_tells_status_transaction_and_every_host(site: Site) -> None:
    outcome = await site.add(RS1)
    document = json.loads(json.dumps(outcome.as_json()))
    assert (document["status"], document["exit_status"]) == ("done", 0)
    assert document["transaction"] == outcome.transaction
    assert [(each["role"], len(each["steps"])) for each in document["hosts"]] == [("real server", 1), ("director", 3)]
    assert document["hosts"][0]["steps"][0]["result"] == "done"
