"""An agent whose journal is corrupt, over real gRPC: it shows the kernel, says DEGRADED, and changes nothing."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agent_common.errors import LvsError, Reason
from agent_common.transaction import TransactionState
from cli import reading, tables
from cli.errors import ExitStatus
from cli.outcome import StepReport
from cli.transaction_client import TransactionClient
from cli.transactions import resolve_transactions
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2, table
from tests.common.test_transactions import T, addition
from tests.hosts import VIP, WEB, DirectorHost

BROKEN = "a flipped bit"

CHANGES: dict[str, Callable[[DirectorHost], Awaitable[object]]] = {
    "apply": lambda host: host.changes.apply(addition().operations[0], "c"),
    "validate": lambda host: host.changes.apply(addition().operations[0], "c", validate_only=True),
    "revert": lambda host: host.changes.revert("c"),
    "prepare": lambda host: host.transactions.prepare(addition("add-2")),
    "commit": lambda host: host.transactions.commit(T, 0),
    "abort": lambda host: host.transactions.abort(T),
    "abort of one unknown": lambda host: host.transactions.abort("add-2"),
    "resolve": lambda host: host.transactions.resolve(T),
    "renew": lambda host: host.transactions.renew(T, 0, 60.0),
    "finish": lambda host: host.transactions.finish(T),
    "forget": lambda host: host.transactions.forget(T),
    "get": lambda host: host.transactions.get(T),
    "list": lambda host: host.transactions.list_all(),
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving_site(tmp_path) as made:
        yield made


def kernel(site: Site) -> object:
    """What the kernels have: the journals are not asked."""
    return [
        (
            sorted(str(each) for each in host.addresses.addresses()),
            table(host, WEB) if isinstance(host, DirectorHost) else dict(host.silence.values()),
        )
        for host in site.hosts.values()
    ]


@pytest.mark.parametrize("name", CHANGES)
async def test_every_change_is_refused_and_so_is_what_the_journal_would_have_to_tell(name: str) -> None:
    """To answer "not known" for a transaction would be a lie that others go by."""
    host = DirectorHost()
    await host.transactions.prepare(addition())
    before = table(host, WEB)
    host.state.damage = BROKEN
    with pytest.raises(LvsError, match="the journal is corrupt") as caught:
        await CHANGES[name](host)
    assert caught.value.reason is Reason.JOURNAL_CORRUPT
    assert table(host, WEB) == before
    host.clock.now += 60
    await host.transactions.go_on()  # the end of the lease changes nothing either
    host.state.damage = ""
    assert (await host.transactions.get(T)).state is TransactionState.PREPARED


@pytest.mark.parametrize("broken", ["d1", RS1])
async def test_commands_end_with_a_refusal_that_names_it_and_change_no_host(site: Site, broken: str) -> None:
    assert (await site.add(RS1)).status is ExitStatus.DONE
    before = kernel(site)
    site.hosts[broken].state.damage = BROKEN
    outcomes = [
        await site.add(RS1, RS2),
        await site.remove(RS1, prune=True, drain_timeout=None, force=True),
        await site.remove(RS1, prune=True, force=True),
    ]
    if broken == "d1":
        weighed = [await site.weight(RS1, weight=5), await site.weight(RS1, draining=True, force=True)]
        assert [each.status for each in weighed] == [ExitStatus.REFUSED] * 2
        outcomes += weighed
    for outcome in outcomes:
        assert outcome.status in (ExitStatus.REFUSED, ExitStatus.ROLLED_BACK), outcome.message
        assert "the journal is corrupt" in outcome.message
    assert kernel(site) == before


async def test_the_kernel_is_shown_as_foreign_and_the_agents_as_degraded(site: Site) -> None:
    assert (await site.add(RS1)).status is ExitStatus.DONE
    for name in ("d1", RS1):
        site.hosts[name].state.damage = BROKEN
    clients = (await site.run()).clients
    (director,) = clients.site.director_names()
    state = await reading.read_director(clients[director])
    text = "\n".join(tables.status_lines(director, state, {}, datetime.datetime.now(datetime.UTC)))
    assert f"DEGRADED: the journal is corrupt ({BROKEN})" in text
    assert f"tcp/{VIP}:80  wlc, foreign" in text
    assert state.virtual_servers[0].destinations[0].destination.key.address == RS1
    assert any("degraded" in line for line in tables.drift_lines(director, state))
    document = tables.drift_as_json(reading.Reading(agent=director, answer=state))
    assert (document["answer"], document["problems"]) == ([], [f"the journal is corrupt ({BROKEN})"])
    (agent,) = reading.real_servers_of([state])
    found = await reading.read_real_server(clients[agent])
    assert tables.real_server_word(found, [str(VIP)]) == "DEGRADED: see lvs rs show"


async def test_one_that_breaks_in_the_middle_undoes_nothing_and_the_outcome_says_so(site: Site) -> None:
    """The real server's, once it has prepared: it is not READY, the others are undone, and it is told of as unknown."""

    def breaks(step: StepReport) -> None:
        if "VIP" in step.title:
            site.rs(RS1).state.damage = BROKEN

    outcome = await site.add(RS1, on_step=breaks)
    assert outcome.status is ExitStatus.UNFINISHED, outcome.message
    assert "the journal is corrupt" in outcome.message
    assert site.director.ipvs.virtual_servers() == []
    assert VIP in {each.address for each in site.rs(RS1).addresses.addresses()}
    resolved = await resolve_transactions(outcome.transaction, await site.run())
    assert resolved.status is ExitStatus.UNFINISHED
    assert "the journal is corrupt" in resolved.message


async def test_an_authority_that_cannot_tell_is_not_taken_for_one_that_says_no(site: Site) -> None:
    """Its journal breaks after the decision; the real server that is READY keeps its VIP."""
    await site.director.transactions.prepare(addition())
    await site.director.transactions.commit(T, 0)
    site.director.state.damage = BROKEN
    clients = (await site.run()).clients
    (director,) = clients.site.director_names()
    for ask in (TransactionClient(clients[director]).get, TransactionClient(clients[director]).resolve):
        with pytest.raises(LvsError) as caught:
            await ask(T)
        assert caught.value.reason is Reason.JOURNAL_CORRUPT
