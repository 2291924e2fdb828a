"""HealthService as another program calls it: policies, what checks say, what has happened, and a probe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from lvsagent.v1 import destination_pb2, health_pb2, health_service_pb2, health_service_pb2_grpc

from agent_common import wire
from agent_common.destination import MAX_WEIGHT
from agent_common.errors import InvalidInputError, NotFoundError
from agent_common.virtual_server import parse_key
from agent_common.wire_health import pack_policy, unpack_policy
from agent_director.health_log import HealthLog, open_events
from cli import operations
from cli.client import AgentClient
from tests.director.test_health_watch import (
    POLICY,
    RS1,
    RS2,
    WEIGHTS,
    apply,
    fail,
    following,
    set_health,
    site,
    until,
    weights,
)
from tests.hosts import WEB, DirectorHost
from tests.serving import serving

KEY = wire.pack_key(WEB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A director whose checks go on, and a client of it."""

    host: DirectorHost
    client: AgentClient

    @property
    def stub(self) -> health_service_pb2_grpc.HealthServiceAsyncStub:
        return self.client.health


@pytest.fixture
async def called(tmp_path: Path) -> AsyncIterator[Called]:
    host = await site()
    host.health_log._file = open_events(tmp_path)
    async with following(host), serving(tmp_path, {"lb1": host}) as served:
        clients = await served.clients()
        yield Called(host=host, client=clients[clients.site.director_names()[0]])


async def test_a_policy_is_read_as_it_was_set_with_all_that_its_checks_say(called: Called) -> None:
    fail(called.host, RS1)
    await until(lambda: weights(called.host)[RS1] == 0)
    answer = await called.client.ask(called.stub.GetHealth, health_service_pb2.GetHealthRequest(virtual_server=KEY))
    status = answer.status
    assert unpack_policy(status.policy) == POLICY
    assert status.health.has_quorum
    assert status.health.weight_up == 11
    first, second, _ = status.destinations
    assert (first.destination.weight, first.current_weight, first.health.percent) == (4, 0, 0)
    assert first.health.verdict == destination_pb2.VERDICT_DOWN
    assert first.health.detail == "connection refused"
    assert first.health.since.seconds > 1_700_000_000
    assert second.health.verdict == destination_pb2.VERDICT_UP


async def test_without_a_policy_it_is_not_found_and_without_a_virtual_server_neither(called: Called) -> None:
    await apply(called.host, operations.create_virtual_server(parse_key("tcp/192.168.0.201:80"), "rr", None))
    for key in ("tcp/192.168.0.201:80", "tcp/192.168.0.202:80"):
        request = health_service_pb2.GetHealthRequest(virtual_server=wire.pack_key(parse_key(key)))
        with pytest.raises(NotFoundError):
            await called.client.ask(called.stub.GetHealth, request)


async def test_policies_come_in_pages(called: Called) -> None:
    keys = [parse_key(f"tcp/192.168.0.{number}:80") for number in range(201, 206)]
    for key in keys:
        await apply(called.host, operations.create_virtual_server(key, "rr", None))
        operation = set_health(POLICY)
        operation.set_health.virtual_server.CopyFrom(wire.pack_key(key))
        await apply(called.host, operation)
    found, token = [], ""
    while True:
        request = health_service_pb2.ListHealthRequest(page_size=2, page_token=token)
        page = await called.client.ask(called.stub.ListHealth, request)
        found += [wire.unpack_key(each.virtual_server) for each in page.statuses]
        token = page.next_page_token
        if not token:
            break
        assert len(page.statuses) == 2
    assert found == [WEB, *keys]


async def test_events_come_newest_first_in_pages_and_outlive_the_agent(called: Called, tmp_path: Path) -> None:
    fail(called.host, RS1, RS2)
    await until(lambda: sum(not weight for weight in weights(called.host).values()) == 2)
    kinds, token = [], ""
    while True:
        request = health_service_pb2.ListHealthEventsRequest(page_size=3, page_token=token, virtual_server=KEY)
        page = await called.client.ask(called.stub.ListHealthEvents, request)
        kinds += [each.kind for each in page.events]
        token = page.next_page_token
        if not token:
            break
    down, out = health_pb2.HEALTH_EVENT_KIND_DOWN, health_pb2.HEALTH_EVENT_KIND_OUT
    assert sorted(kinds) == [down, down, out, out]
    assert kinds[-1] == down
    assert kinds[0] == out
    again, _ = HealthLog(open_events(tmp_path)).page(10, "", lambda event: True)
    assert [each.kind for each in again] == kinds


async def test_a_page_token_that_is_none_is_refused(called: Called) -> None:
    with pytest.raises(InvalidInputError, match="page_token"):
        request = health_service_pb2.ListHealthEventsRequest(page_token="x")  # noqa: S106  # no password
        await called.client.ask(called.stub.ListHealthEvents, request)


@pytest.mark.parametrize("seconds", [-1, 61])
async def test_a_probe_waits_a_minute_at_most(called: Called, seconds: int) -> None:
    request = health_service_pb2.ProbeDestinationRequest(
        virtual_server=KEY, destination=wire.pack_destination_key(RS1), wait=Duration(seconds=seconds)
    )
    with pytest.raises(InvalidInputError) as caught:
        await called.client.ask(called.stub.ProbeDestination, request)
    assert caught.value.field == "wait"


async def test_a_probe_ends_with_its_client(tmp_path: Path) -> None:
    """Neither does it go on until its time is over, nor does an agent that is told to end wait for it."""
    host = await site()
    fail(host, RS1)
    request = health_service_pb2.ProbeDestinationRequest(
        virtual_server=KEY, destination=wire.pack_destination_key(RS1), wait=Duration(seconds=60)
    )
    async with asyncio.timeout(10), serving(tmp_path, {"lb1": host}) as served:
        clients = await served.clients()
        client = clients[clients.site.director_names()[0]]
        asking = asyncio.ensure_future(client.ask(client.health.ProbeDestination, request))
        await until(lambda: host.checker.asked[RS1.address] > 0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("policy.check.kind", lambda policy: policy.check.ClearField("kind")),
        ("policy.check.timeout", lambda policy: policy.check.timeout.FromSeconds(100)),
        ("policy.check.interval", lambda policy: policy.check.interval.FromSeconds(-5)),
        ("policy.check.http.tls.server_name", lambda policy: policy.check.http.tls.SetInParent()),
        ("policy.quorum", lambda policy: setattr(policy, "quorum", 2**32 - 1)),
        ("policy.hysteresis", lambda policy: setattr(policy, "hysteresis", 1)),
        ("policy.start", lambda policy: setattr(policy, "start", 77)),
        ("policy.effect", lambda policy: setattr(policy, "effect", 77)),
        ("policy.slow_start", lambda policy: policy.slow_start.FromMilliseconds(1)),
        ("policy.floor", lambda policy: setattr(policy.floor, "percent", 101)),
        ("policy.damping.window", lambda policy: policy.damping.window.FromSeconds(0)),
        ("policy.damping.falls", lambda policy: setattr(policy.damping, "falls", 1)),
        ("policy.max_changes_per_second", lambda policy: setattr(policy, "max_changes_per_second", 1001)),
        ("policy.sorry.address", lambda policy: setattr(policy.sorry, "address", "rs1")),
        ("policy.down_command", lambda policy: policy.down_command.append("ls")),
        ("policy.dynamic_weight", lambda policy: policy.dynamic_weight.SetInParent()),
    ],
)
async def test_an_impossible_policy_is_refused_with_the_field_and_changes_nothing(
    called: Called, field: str, change: object
) -> None:
    policy = pack_policy(POLICY)
    change(policy)  # type: ignore[operator]
    request = health_pb2.SetHealthRequest(virtual_server=KEY, policy=policy)
    with pytest.raises(InvalidInputError) as caught:
        await called.client.ask(called.stub.SetHealth, request)
    assert caught.value.field == field
    assert called.host.healths.get(WEB) == POLICY


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(called: Called) -> None:
    request = set_health(replace(POLICY, quorum=3, slow_start=10.0)).set_health
    request.validate_only = True
    answer = await called.client.ask(called.stub.SetHealth, request)
    assert answer.change.made
    assert "slow start, quorum" in answer.change.actions[0]
    assert called.host.healths.get(WEB) == POLICY


async def test_the_largest_weights_together_can_be_told(called: Called) -> None:
    await apply(called.host, *(operations.update_destination(WEB, key, weight=MAX_WEIGHT) for key in WEIGHTS))
    await until(lambda: (server := called.host.health_watch.server(WEB)) is not None and server.weight_up > 2**32)
    request = health_service_pb2.GetHealthRequest(virtual_server=KEY)
    answer = await called.client.ask(called.stub.GetHealth, request)
    assert answer.status.health.weight_up == 2**32 - 1
