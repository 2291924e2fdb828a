"""The runner: steps in order, and after a failure back again; agents answer over real gRPC, from fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest
from lvsagent.v1 import host_service_pb2, virtual_server_pb2

from agent_common.errors import DiffersError, InternalError, LvsError, Reason, RefusedError
from agent_common.neighbours import NoNeighbours
from agent_common.operation import Change, Operation
from agent_common.sockets import Listener
from agent_common.virtual_server import Protocol, VirtualServer, VirtualServerKey, parse_key
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from cli.client import Clients
from cli.errors import Interrupted, NoAnswerError
from cli.interrupt import Interrupt
from cli.outcome import StepReport, StepResult
from cli.plan import Step
from cli.runner import Runner
from cli.site import AgentName, Role, real_server
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder
from tests.serving import Served

OTHER = parse_key("tcp/192.168.0.201:80")
RS = "192.168.0.104"


class SlowNeighbours(NoNeighbours):
    """Neighbours who take their time before a VIP is added."""

    seconds = 0.0

    async def ask(self, change: Change) -> None:
        await asyncio.sleep(self.seconds)


class OddIpvs(FakeIpvs):
    """IPVS with a defect beside it: the virtual server is made, and then the agent fails."""

    broken = False
    held: frozenset[VirtualServerKey] = frozenset()

    def add_virtual_server(self, virtual_server: VirtualServer) -> None:
        super().add_virtual_server(virtual_server)
        if self.broken:
            raise ZeroDivisionError("a defect")

    def remove_virtual_server(self, key: VirtualServerKey) -> None:
        if key in self.held:
            raise RefusedError(f"cannot remove {key}", Reason.KERNEL_REFUSED)
        super().remove_virtual_server(key)


class Stage:
    """One director and one real server, and a runner that reaches them."""

    def __init__(self, site: Served, clients: Clients) -> None:
        self.site = site
        self.interrupt = Interrupt()
        self.reports: list[StepReport] = []
        self.clients = clients
        (self.d1,) = clients.site.director_names()
        self.runner = Runner(clients, "t", self.interrupt, self.reports.append)

    def said(self) -> list[tuple[str, str]]:
        """Return what was reported, as (result, title)."""
        return [(each.result.value, each.title) for each in self.reports]


@pytest.fixture
def director() -> DirectorHost:
    return DirectorHost(ipvs=OddIpvs(), neighbours=SlowNeighbours())


@pytest.fixture
def rs() -> RealServerHost:
    return RealServerHost(address=RS)


@pytest.fixture
async def stage(director: DirectorHost, rs: RealServerHost, tmp_path: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        site = Served(tmp_path, stack)
        await site.start("d1", director)
        await site.start(RS, rs)
        yield Stage(site, await site.clients(0.5))


def step(agent: AgentName, title: str, *asked: Operation) -> Step:
    return Step(agent=agent, title=title, undo=f"not {title}", operations=asked)


def server(key: VirtualServerKey = WEB, scheduler: str | None = None) -> Operation:
    return operations.create_virtual_server(key, scheduler, None)


def vip() -> Operation:
    return operations.create_vip(VIP, holder())


def backend() -> Operation:
    return operations.create_destination(WEB, destination().key, None, None)


async def nothing_is_left(director: DirectorHost, rs: RealServerHost) -> None:
    assert director.ipvs.virtual_servers() == []
    assert director.vips.list_all() == rs.vips.list_all() == []


class TestRun:
    """Steps in order."""

    async def test_each_step_is_reported_when_it_is_done(self, stage: Stage, director: DirectorHost) -> None:
        steps = [step(real_server(ip_address(RS)), "a", vip()), step(stage.d1, "b", server(), backend())]
        assert await stage.runner.run(steps) is None
        assert stage.said() == [("done", "a"), ("done", "b")]
        assert stage.reports[1].details == (
            f"add virtual server {WEB} wlc",
            f"add {destination().key} to {WEB}, dr, weight 1",
        )
        assert len(director.destinations.list_all(WEB)) == 1

    async def test_what_is_in_place_is_said_and_not_taken_back(self, stage: Stage, director: DirectorHost) -> None:
        await director.changes.apply(server(), "")
        failed = await stage.runner.run([step(stage.d1, "a", server()), step(stage.d1, "b", server(WEB, "rr"))])
        assert failed is not None
        assert await stage.runner.undo() == []
        assert stage.said() == [("in place", "a"), ("failed", "b")]
        assert director.ipvs.virtual_servers() == [VirtualServer(key=WEB)]

    async def test_after_a_failure_nothing_further_is_done(self, stage: Stage, director: DirectorHost) -> None:
        steps = [step(stage.d1, "a", server()), step(stage.d1, "b", server(WEB, "rr")), step(stage.d1, "c", vip())]
        failed = await stage.runner.run(steps)
        assert failed is not None
        assert failed.step is steps[1]
        assert isinstance(failed.error, DiffersError)
        assert stage.said() == [("done", "a"), ("failed", "b")]
        assert director.vips.list_all() == []

    async def test_before_every_step_the_wish_to_stop_is_heard(self, stage: Stage, director: DirectorHost) -> None:
        stage.interrupt.set()
        failed = await stage.runner.run([step(stage.d1, "a", server())])
        assert failed is not None
        assert isinstance(failed.error, Interrupted)
        assert director.ipvs.virtual_servers() == []


class TestUndo:
    """Back again."""

    async def test_everything_is_taken_back_the_last_first(
        self, stage: Stage, director: DirectorHost, rs: RealServerHost
    ) -> None:
        steps = [
            step(real_server(ip_address(RS)), "a", vip()),
            step(stage.d1, "b", server()),
            step(stage.d1, "c", vip()),
            step(stage.d1, "d", server(OTHER, "nosuch")),
        ]
        assert await stage.runner.run(steps) is not None
        assert await stage.runner.undo() == []
        assert stage.said()[3:] == [
            ("failed", "d"),
            ("undone", "undo: not c"),
            ("undone", "undo: not b"),
            ("undone", "undo: not a"),
        ]
        await nothing_is_left(director, rs)

    async def test_what_others_need_by_now_is_kept_and_does_not_count_as_left(
        self, stage: Stage, director: DirectorHost
    ) -> None:
        assert await stage.runner.run([step(stage.d1, "a", server())]) is None
        director.ipvs.add_destination(WEB, destination())
        assert await stage.runner.undo() == []
        assert stage.said()[-1] == ("kept", "undo: not a")
        assert stage.reports[-1].details == (f"virtual server {WEB} stays: it has destinations by now",)

    async def test_an_undo_that_fails_does_not_keep_the_others_from_being_tried(
        self, stage: Stage, director: DirectorHost, rs: RealServerHost
    ) -> None:
        assert isinstance(director.ipvs, OddIpvs)
        steps = [step(real_server(ip_address(RS)), "a", vip()), step(stage.d1, "b", server())]
        assert await stage.runner.run(steps) is None
        director.ipvs.held = frozenset({WEB})
        assert await stage.runner.undo() == [steps[1]]
        assert stage.said()[-2:] == [("unknown", "undo: not b"), ("undone", "undo: not a")]
        assert rs.vips.list_all() == []

    async def test_an_agent_that_is_gone_leaves_its_step_unknown(
        self, stage: Stage, director: DirectorHost, rs: RealServerHost
    ) -> None:
        steps = [step(stage.d1, "a", server()), step(real_server(ip_address(RS)), "b", vip())]
        assert await stage.runner.run(steps) is None
        await stage.site.kill(RS)
        assert await stage.runner.undo() == [steps[1]]
        assert director.ipvs.virtual_servers() == []
        assert rs.vips.list_all() != []

    async def test_an_answer_that_was_lost_counts_as_perhaps_made(
        self, stage: Stage, director: DirectorHost, rs: RealServerHost
    ) -> None:
        """The agent was slow, made the change, and nobody heard of it: it is taken back by name."""
        SlowNeighbours.seconds = 0.7
        try:
            failed = await stage.runner.run([step(stage.d1, "a", vip())])
            assert failed is not None
            assert isinstance(failed.error, NoAnswerError)
            assert failed.error.sent
            assert await stage.runner.undo() == []
        finally:
            SlowNeighbours.seconds = 0.0
        assert stage.said() == [("undone", "undo: not a")]
        await nothing_is_left(director, rs)

    async def test_a_change_that_never_arrived_is_refused_if_it_comes_late(
        self, stage: Stage, director: DirectorHost
    ) -> None:
        """The undo of what the agent does not know leaves a tombstone there."""
        stage.runner._made.append((step(stage.d1, "a", server()), "t.0"))
        assert await stage.runner.undo() == []
        with pytest.raises(LvsError, match="it was reverted already"):
            await stage.clients[stage.d1].apply(server(), "t.0")
        assert director.ipvs.virtual_servers() == []

    async def test_a_defect_in_an_agent_counts_as_perhaps_made(
        self, stage: Stage, director: DirectorHost, rs: RealServerHost
    ) -> None:
        assert isinstance(director.ipvs, OddIpvs)
        director.ipvs.broken = True
        failed = await stage.runner.run([step(stage.d1, "a", server())])
        assert failed is not None
        assert isinstance(failed.error, InternalError)
        assert director.ipvs.virtual_servers() != []
        assert await stage.runner.undo() == []
        await nothing_is_left(director, rs)

    async def test_a_batch_that_its_agent_could_not_take_back_is_tried_again(
        self, stage: Stage, director: DirectorHost, rs: RealServerHost
    ) -> None:
        assert isinstance(director.ipvs, OddIpvs)
        director.ipvs.held = frozenset({WEB})
        failed = await stage.runner.run([step(stage.d1, "a", server(), server(OTHER, "nosuch"))])
        assert failed is not None
        director.ipvs.held = frozenset()
        assert await stage.runner.undo() == []
        await nothing_is_left(director, rs)

    async def test_a_batch_that_its_agent_took_back_needs_no_undo(self, stage: Stage, director: DirectorHost) -> None:
        failed = await stage.runner.run([step(stage.d1, "a", server(), server(WEB, "rr"))])
        assert failed is not None
        assert await stage.runner.undo() == []
        assert stage.said() == [("failed", "a")]
        assert director.ipvs.virtual_servers() == []

    async def test_an_agent_that_cannot_be_reached_was_not_asked_and_needs_no_undo(self, stage: Stage) -> None:
        await stage.site.kill(RS)
        failed = await stage.runner.run([step(real_server(ip_address(RS)), "a", vip())])
        assert failed is not None
        assert isinstance(failed.error, NoAnswerError)
        assert not failed.error.sent
        assert await stage.runner.undo() == []
        assert stage.said() == [("failed", "a")]


def listening(seconds: float, warning: str = "") -> Step:
    listener = host_service_pb2.CheckListenerRequest(protocol=virtual_server_pb2.PROTOCOL_UDP, address=RS, port=53)
    agent = real_server(ip_address(RS))
    return Step(agent=agent, title="wait", listener=listener, seconds=seconds, wildcard_warning=warning)


class TestReady:
    """Until something takes what will arrive."""

    async def test_it_is_asked_again_and_again(self, stage: Stage, rs: RealServerHost) -> None:
        waiting = asyncio.ensure_future(stage.runner.run([listening(5)]))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        rs.sockets.bound.append(Listener(protocol=Protocol.UDP, address=ip_address(RS), port=53))
        assert await waiting is None
        assert stage.said() == [("done", "wait")]
        assert stage.reports[0].warnings == ()

    async def test_in_time_or_not_at_all_and_what_was_found_instead_is_said(
        self, stage: Stage, rs: RealServerHost
    ) -> None:
        rs.sockets.bound.append(Listener(protocol=Protocol.UDP, address=VIP, port=53))
        failed = await stage.runner.run([listening(0.1)])
        assert failed is not None
        assert isinstance(failed.error, RefusedError)
        assert "after 0.1 s: something listens on port 53 of 192.168.0.200 only" in failed.error.message

    async def test_one_on_the_wildcard_gets_the_warning(self, stage: Stage, rs: RealServerHost) -> None:
        rs.sockets.bound.append(Listener(protocol=Protocol.UDP, address=ip_address("::"), port=53))
        assert await stage.runner.run([listening(1, "answers from elsewhere")]) is None
        assert stage.reports[0].warnings == ("answers from elsewhere",)

    async def test_the_wish_to_stop_ends_the_wait_at_once(self, stage: Stage) -> None:
        waiting = asyncio.ensure_future(stage.runner.run([listening(60)]))
        await asyncio.sleep(0.2)
        stage.interrupt.set()
        failed = await asyncio.wait_for(waiting, 1)
        assert failed is not None
        assert isinstance(failed.error, Interrupted)


class TestDrained:
    """Until no connection is left that counts."""

    @pytest.fixture
    def drained(self, director: DirectorHost, stage: Stage) -> Iterable[Step]:
        director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        director.ipvs.add_destination(WEB, destination(weight=0))
        return [Step(agent=stage.d1, title="wait", drained=(WEB, destination().key), seconds=5)]

    async def test_without_connections_there_is_nothing_to_wait_for(
        self, stage: Stage, drained: Iterable[Step]
    ) -> None:
        for each in drained:
            await asyncio.wait_for(stage.runner.run([each]), 1)
        assert stage.said() == [("done", "wait")]

    async def test_it_ends_when_the_last_connection_is_gone(
        self, stage: Stage, director: DirectorHost, drained: Iterable[Step]
    ) -> None:
        (each,) = drained
        director.ipvs.set_connections(WEB, destination().key, active=2, inactive=1)
        waiting = asyncio.ensure_future(stage.runner.run([each]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        director.ipvs.set_connections(WEB, destination().key)
        await asyncio.wait_for(waiting, 2)
        assert stage.reports[0].warnings == ()

    async def test_a_destination_that_is_gone_has_none(self, stage: Stage, director: DirectorHost) -> None:
        gone = Step(agent=stage.d1, title="wait", drained=(WEB, destination().key), seconds=5)
        await asyncio.wait_for(stage.runner.run([gone]), 1)
        assert stage.said() == [("done", "wait")]

    async def test_at_the_end_of_the_time_what_is_cut_is_said(
        self, stage: Stage, director: DirectorHost, drained: Iterable[Step]
    ) -> None:
        director.ipvs.set_connections(WEB, destination().key, active=3)
        await stage.runner.run([Step(agent=stage.d1, title="wait", drained=(WEB, destination().key), seconds=0.1)])
        assert stage.reports[0].result is StepResult.DONE
        assert stage.reports[0].warnings == (f"3 connections of {destination().key} are cut",)

    async def test_the_wish_to_stop_ends_the_wait(
        self, stage: Stage, director: DirectorHost, drained: Iterable[Step]
    ) -> None:
        (each,) = drained
        director.ipvs.set_connections(WEB, destination().key, active=3)
        waiting = asyncio.ensure_future(stage.runner.run([each]))
        await asyncio.sleep(0.1)
        stage.interrupt.set()
        failed = await asyncio.wait_for(waiting, 1)
        assert failed is not None
        assert isinstance(failed.error, Interrupted)

    async def test_an_agent_that_is_gone_is_reported(self, stage: Stage, drained: Iterable[Step]) -> None:
        (each,) = drained
        await stage.site.kill("d1")
        await stage.runner.run([each])
        assert stage.said() == [("failed", "wait")]


async def test_agents_are_called_by_their_role(stage: Stage) -> None:
    assert (stage.d1.role, real_server(ip_address(RS)).role) == (Role.DIRECTOR, Role.REAL_SERVER)
