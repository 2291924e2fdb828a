"""The connection to an agent that dies and comes back."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.client import AgentClient
from cli.errors import NoAnswerError
from tests.hosts import DirectorHost
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
