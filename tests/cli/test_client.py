"""The connection to an agent that dies and comes back."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from lvsagent.v1 import change_service_pb2

from agent_common.errors import LvsError
from agent_common.table import Entry, TableStep
from agent_common.virtual_server import VirtualServer
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from cli.client import AgentClient
from cli.errors import ExitStatus, NoAnswerError, status_of
from cli.reading import read_all, read_real_server
from cli.site import real_server
from tests.hosts import WEB, DirectorHost
from tests.serving import Served, serving

TRIES = 20


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, {"d1": DirectorHost()}) as site:
        yield site


async def client_of(served: Served) -> AgentClient:
    clients = await served.clients()
    return clients[clients.site.director_names()[0]]


async def test_an_agent_that_is_back_is_reached_though_it_was_not_a_moment_ago(served: Served) -> None:
    """An earlier failure says nothing of now: an agent that was restarted in the middle of a command is asked again."""
    client = await client_of(served)
    await client.host()
    for _ in range(TRIES):
        await served.kill("d1")
        with pytest.raises(NoAnswerError):
            await client.host()
        await served.start("d1", DirectorHost())
        await client.host()


async def test_an_agent_that_is_not_there_is_given_up_soon(served: Served) -> None:
    client = await client_of(served)
    await served.kill("d1")
    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(NoAnswerError, match="cannot connect"):
            await client.host()
    assert time.monotonic() - begun < 4


class Slow(FakeIpvs):
    """Takes longer for a table than the client waits for other things."""

    def take(self, steps: Sequence[TableStep]) -> list[LvsError | None]:
        time.sleep(2.5)
        return super().take(steps)


async def test_a_table_that_is_replaced_by_little_may_take_as_long_as_one_that_goes(tmp_path: Path) -> None:
    """Nobody knows how much is there: removing 10,000 things takes a slow host longer than --timeout."""
    host = DirectorHost(ipvs=Slow())
    host.ipvs.add_virtual_server(VirtualServer(key=WEB))
    async with serving(tmp_path, {"d1": host}) as served:
        client = await client_of(served)
        client._timeout = 1.0
        change = await client.apply(operations.apply_table({}, replace=True), "")
        assert change.table.removed == 1
        assert (await client.revert(change.id, is_table=True)).outcome == change_service_pb2.REVERT_OUTCOME_REVERTED


async def test_how_long_was_waited_is_said_as_it_was(tmp_path: Path) -> None:
    """An answer to a table may take longer than --timeout by a second for each thousand things."""
    async with serving(tmp_path, {"d1": DirectorHost(ipvs=Slow())}) as served:
        client = await client_of(served)
        client._timeout = 0.5
        table = {WEB: Entry(virtual_server=VirtualServer(key=WEB))}
        with pytest.raises(NoAnswerError, match=r"no answer from \S+ within 1\.5 s"):
            await client.apply(operations.apply_table(table, replace=False), "")


async def test_a_real_server_that_wants_tls_is_one_that_does_not_answer(served: Served) -> None:
    """Who reads through a local socket has no certificates: what the director says is printed, and the status is 14."""
    clients = await served.clients()
    (reading,) = await read_all(clients, [real_server(ip_address("192.168.0.104"))], read_real_server)
    assert isinstance(reading.error, NoAnswerError)
    assert status_of(reading.error) is ExitStatus.UNREACHABLE
    assert str(reading.error).count("192.168.0.104:") == 2  # whose agent, and its port
    assert "--tls-ca" in str(reading.error)
