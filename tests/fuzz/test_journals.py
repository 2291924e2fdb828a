"""Journals whose records are as they were written and make no sense: the agent starts, or says so, and lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import strategies as st

from agent_common.agent import agent_id
from agent_common.check import Check, HttpCheck, Tls
from agent_common.destination import DestinationKey, Standing
from agent_common.errors import LvsError
from agent_common.fake_state import FakeState
from agent_common.health import HealthPolicy
from agent_common.identity import Kind
from agent_common.sqlite_state import SqliteState
from agent_common.start import start_or_distrust
from agent_director.health_records import Stood
from tests.common.test_access import image, make_host
from tests.fuzz.agents import Asked, all_methods, ask, good_request, serving
from tests.fuzz.fuzzing import Fuzz
from tests.fuzz.test_messages import KINDS, ORDER
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost
from tests.serving import Host
from tests.state_files import write_file

Records = dict[tuple[str, str], Any]

scalars = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=10) | st.just("192.168.0.200")
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def written(kind: Kind, folder: Path) -> Records:
    """The records of an agent of which everything was asked once."""
    host = make_host(kind)
    async with serving(host, kind, folder) as target, grpc.aio.insecure_channel(target) as channel:
        for method in sorted(all_methods(kind, folder), key=lambda each: each.name not in str(ORDER)):
            if method.name not in ("DeleteVirtualServer", "DeleteVip", "DeleteDestination", "ServerReflectionInfo"):
                await ask(channel, Asked(method=method, requests=[good_request(method, kind)]))
    if isinstance(host, DirectorHost):
        host.health.set_policy(WEB, HealthPolicy(check=Check(kind=HttpCheck(tls=Tls(server_name="a"))), quorum=2))
        real_server = DestinationKey(address=VIP, port=80)
        host.health.set_standings([(WEB, real_server, Stood(standing=Standing(percent=0), is_down=True))])
        host.health.set_quorum(WEB, has_quorum=False)
    return {each: json.loads(text) for each, text in host.state._records.items()}


@st.composite
def spoilt(draw: st.DrawFn, records: Records) -> Records:
    """Records of which some have another body, or a body with another value somewhere in it, or another name."""
    found = json.loads(json.dumps([[*key, body] for key, body in records.items()]))
    for _ in range(draw(st.integers(1, 3))):
        record = draw(st.sampled_from(found))
        match draw(st.integers(0, 3)):
            case 0:
                record[2] = draw(documents)
            case 1:
                record[1] = draw(st.text(max_size=20))
            case _:
                _spoil(draw, record)
    return {(kind, name): body for kind, name, body in found}


def _spoil(draw: st.DrawFn, record: list[Any]) -> None:
    inside: Any = record
    place: Any = 2
    while isinstance(inside[place], dict | list) and inside[place] and draw(st.integers(0, 3)):
        inside = inside[place]
        place = draw(st.sampled_from([*inside] if isinstance(inside, dict) else range(len(inside))))
    inside[place] = draw(documents)


def restarted(kind: Kind, state: FakeState) -> Host:
    return DirectorHost(state=state) if kind is Kind.DIRECTOR else RealServerHost(state=state)


async def start(host: Host) -> None:
    """Do what an agent's __main__ does before it serves."""
    await host.transactions.start()
    if isinstance(host, DirectorHost):
        host.health.load()
        await host.restore.start(new_boot=True, complete=host.transactions.complete)
    else:
        await host.restore.start()


@pytest.mark.parametrize("kind", KINDS)
def test_records_that_make_no_sense(kind: Kind, fuzz: Fuzz, loop: asyncio.Runner, tmp_path: Path) -> None:
    """An agent starts on them, or refuses in one line, or shows the kernel as it is and says that it is degraded."""
    records = loop.run(written(kind, tmp_path))
    assert len(records) > 3

    async def check(bodies: Records) -> None:
        state = FakeState()
        state._records = {key: json.dumps(body) for key, body in bodies.items()}
        host = restarted(kind, state)
        try:
            agent_id(state)
            trusted = await start_or_distrust(state, lambda: start(host))
        except LvsError:
            return
        if trusted:
            return
        assert host.problems.texts()
        before = image(host)
        async with serving(host, kind, tmp_path) as target, grpc.aio.insecure_channel(target) as channel:
            for method in all_methods(kind, tmp_path):
                if method.name in ("ListVips", "CreateVip", "GetHost", "PrepareTransaction", "ListVirtualServers"):
                    ended = await ask(channel, Asked(method=method, requests=[good_request(method, kind)]))
                    assert ended.code in (grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION), ended
        assert image(host) == before

    fuzz(lambda bodies: loop.run(check(bodies)), spoilt(records), examples=80)


def test_a_record_that_makes_no_sense_is_told_of_its_file(tmp_path: Path) -> None:
    """The same on disk: the agent has no other, and says which file it is."""
    write_file(tmp_path, 2, {("agent", "id"): {"id": 7}})
    state = SqliteState(tmp_path)
    assert agent_id(state)
    assert str(tmp_path / "state.db") in state.problems()[0]
    assert asyncio.run(start_or_distrust(state, lambda: asyncio.sleep(0))) is False
    state.close()
