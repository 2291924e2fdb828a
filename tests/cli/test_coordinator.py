"""A coordinator that dies at any message, and messages that are lost or come twice: in the end all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from lvsagent.v1.transaction_service_pb2 import CommitTransactionRequest

from agent_common.errors import ExhaustedError, NotFoundError, Reason
from agent_common.sockets import Listener
from agent_common.transaction import TransactionState
from agent_common.virtual_server import Protocol
from cli import operations
from cli.add_backend import add_backend
from cli.client import AgentClient
from cli.errors import ExitStatus, NoAnswerError
from cli.request import AddBackend
from cli.single import change_each
from cli.transactions import resolve_transactions
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2, backend, table
from tests.faults import Died, Fault, Wire
from tests.hosts import VIP, WEB

LEASE = 60.0

MESSAGES = {1: 8, 2: 10}
"""By the number of directors: two real servers and them prepare, those are READY, and everybody commits."""

BOTH = {f"{RS1}:80", f"{RS2}:80"}

CASES = [(directors, number) for directors, count in MESSAGES.items() for number in range(count)]
every_message = pytest.mark.parametrize(("site", "number"), CASES, indirect=["site"])


@pytest.fixture(params=[1])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving_site(tmp_path, directors=request.param) as made:
        yield made


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def backends(site: Site) -> list[set[str]]:
    """The destinations of each director."""
    return [set(table(host, WEB)) if host.ipvs.virtual_servers() else set() for host in site.directors]


def assert_safe(site: Site) -> None:
    """P1: no director sends clients to a real server without the VIP."""
    for found in backends(site):
        for rs in (RS1, RS2):
            assert f"{rs}:80" not in found or site.rs(rs).vips.get(VIP).present


async def until(condition: Callable[[], bool]) -> None:
    """Wait, at most 5 s, until something is so."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


async def pass_leases(site: Site) -> None:
    """Let all leases end, and every agent do what it does then by itself."""
    for host in site.hosts.values():
        host.clock.now += LEASE
        await host.transactions.go_on()


async def assert_all_or_nothing(site: Site, before: object) -> None:
    """Everybody agrees, nothing is locked, and the same command works."""
    assert_safe(site)
    assert all(found == BOTH for found in backends(site)) or site.snapshot() == before
    for host in site.hosts.values():
        assert await host.transactions.list_all() == []
    assert (await site.add(RS1, RS2)).status is ExitStatus.DONE
    assert backends(site) == [BOTH] * len(site.directors)
    assert (await site.remove(RS1, RS2, drain_timeout=None, prune=True)).status is ExitStatus.DONE
    assert site.snapshot() == before


@pytest.mark.parametrize("site", [1, 2], indirect=True)
async def test_the_messages_are_those_of_the_protocol(site: Site, wire: Wire) -> None:
    """Real servers first, then directors; the authority decides, the others follow."""
    await site.add(RS1, RS2)
    directors = len(site.directors)
    assert wire.sent == ["Prepare"] * (2 + directors) + ["Ready"] * 2 + ["Commit"] * (2 + directors)
    assert len(wire.sent) == MESSAGES[directors]


@every_message
@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER])
async def test_a_coordinator_that_dies(site: Site, wire: Wire, number: int, fault: Fault) -> None:
    """Within its lease no client meets an unprepared real server; then any command finishes or undoes it."""
    before = site.snapshot()
    wire.fault = (number, fault)
    with pytest.raises(Died):
        await site.add(RS1, RS2)
    wire.fault = None
    assert_safe(site)
    await pass_leases(site)
    assert_safe(site)
    decided = (await site.director.transactions.list_all(decided=True))[-1:]
    assert all(each.state.is_decided for each in decided)  # by itself, at the authority
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    await assert_all_or_nothing(site, before)


@every_message
async def test_a_later_command_finishes_what_stands_in_its_way(site: Site, wire: Wire, number: int) -> None:
    """Without anybody asking for it: the same addition meets the locks, resolves them, and goes on."""
    before = site.snapshot()
    wire.fault = (number, Fault.KILLED_AFTER)
    with pytest.raises(Died):
        await site.add(RS1, RS2)
    wire.fault = None
    await pass_leases(site)
    outcome = await site.add(RS1, RS2)
    assert outcome.status is ExitStatus.DONE, outcome.message
    await resolve_transactions("", await site.run())
    await assert_all_or_nothing(site, before)


@every_message
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST, Fault.TWICE, Fault.LATE])
async def test_a_message_that_is_lost_or_late_or_comes_twice(site: Site, wire: Wire, number: int, fault: Fault) -> None:
    """The exit status says what is true: 0 is all, 10 is nothing, and 11 is one of them after a resolve."""
    before = site.snapshot()
    wire.fault = (number, fault)
    outcome = await site.add(RS1, RS2)
    wire.fault = None
    await wire.arrive()
    assert_safe(site)
    match outcome.status:
        case ExitStatus.DONE:
            assert backends(site) == [BOTH] * len(site.directors)
        case ExitStatus.ROLLED_BACK:
            assert site.snapshot() == before
        case status:
            assert status is ExitStatus.UNFINISHED
            assert fault is not Fault.TWICE
    await pass_leases(site)
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    await assert_all_or_nothing(site, before)


@every_message
async def test_a_message_that_comes_when_all_is_over(site: Site, wire: Wire, number: int) -> None:
    """It is refused, or changes nothing, and leaves nothing open."""
    before = site.snapshot()
    wire.fault = (number, Fault.LATE)
    await site.add(RS1, RS2)
    wire.fault = None
    await pass_leases(site)
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    await assert_all_or_nothing(site, before)
    over = site.snapshot()
    await wire.arrive()
    assert site.snapshot() == over
    await assert_all_or_nothing(site, before)


async def test_a_coordinator_that_was_stopped_beyond_its_lease_is_told_and_does_no_harm(site: Site, wire: Wire) -> None:
    """It goes on in the middle, after others have undone what it began."""
    before = site.snapshot()
    ready = site.rs(RS1).transactions.ready

    async def late(name: str, fence: int) -> Any:
        await pass_leases(site)
        return await ready(name, fence)

    site.rs(RS1).transactions.ready = late  # type: ignore[method-assign]
    outcome = await site.add(RS1, RS2)
    assert outcome.status is ExitStatus.ROLLED_BACK
    assert "was aborted" in outcome.message
    assert site.snapshot() == before


async def test_an_authority_that_is_gone_for_good_is_replaced_by_the_operators_word(site: Site, wire: Wire) -> None:
    """--assume carries a decision that nobody can read any more."""
    before = site.snapshot()
    wire.fault = (MESSAGES[1] - 3, Fault.KILLED_BEFORE)  # the commit at the authority
    with pytest.raises(Died):
        await site.add(RS1, RS2)
    wire.fault = None
    (name,) = {each.id for each in await site.director.transactions.list_all()}
    await site.served.kill("d1")
    real_servers = (await site.served.clients()).site.rs_agents
    assert set(map(str, real_servers)) == {RS1, RS2}
    for address in (RS1, RS2):
        site.rs(address).clock.now += LEASE
    stuck = await resolve_transactions(name, await site.run())
    assert stuck.status is ExitStatus.UNFINISHED
    assumed = await resolve_transactions(name, await site.run(), assume=TransactionState.ABORTED)
    assert assumed.status is ExitStatus.DONE
    assert [site.rs(each).vips.list_all() for each in (RS1, RS2)] == [[], []]
    await site.served.start("d1", site.director)
    await site.director.transactions.start()
    await pass_leases(site)
    assert site.snapshot() == before


async def test_an_authority_that_is_there_is_not_overruled(site: Site, wire: Wire) -> None:
    """It has decided to commit, and says so to whoever assumes otherwise; the real server keeps the VIP."""
    wire.fault = (MESSAGES[1] - 2, Fault.KILLED_BEFORE)  # right after the commit at the authority
    with pytest.raises(Died):
        await site.add(RS1, RS2)
    wire.fault = None
    (name,) = {each.id for each in await site.rs(RS1).transactions.list_all()}
    await pass_leases(site)
    assumed = await resolve_transactions(name, await site.run(), assume=TransactionState.ABORTED)
    assert assumed.status is ExitStatus.REFUSED
    assert assumed.message.endswith("decides, and answers: it is committed there; nothing was changed")
    assert [each.command for each in assumed.commands] == [f"lvs txn resolve {name} --wait"]
    assert (await resolve_transactions(name, await site.run())).status is ExitStatus.DONE
    assert table(site.director, WEB).keys() == {f"{RS1}:80", f"{RS2}:80"}


@pytest.mark.parametrize("site", [1, 2], indirect=True)
async def test_an_error_after_the_decision_is_not_taken_for_a_no(site: Site, wire: Wire) -> None:
    """The authority's disk fills up right after its record: it answers with an error, and has decided all the same."""
    commit = site.director.transactions.commit

    async def fail_late(name: str, fence: int) -> Any:
        await commit(name, fence)
        raise ExhaustedError("cannot write the state: the disk is full", Reason.DISK_FULL)

    site.director.transactions.commit = fail_late  # type: ignore[method-assign]
    assert (await site.add(RS1, RS2)).status is ExitStatus.DONE
    assert backends(site) == [BOTH] * len(site.directors)
    assert all(site.rs(each).vips.get(VIP).present for each in (RS1, RS2))


@pytest.mark.parametrize("site", [2], indirect=True)
async def test_a_command_for_one_resource_resolves_what_holds_it(site: Site, wire: Wire) -> None:
    """The second director still waits for a decision that the first has come to when the lease ended."""
    wire.fault = (3, Fault.KILLED_AFTER)  # the preparation of the second director
    with pytest.raises(Died):
        await site.add(RS1, RS2)
    wire.fault = None
    await pass_leases(site)
    second = (await site.run()).clients.site.director_names()[1]
    removal = operations.delete_virtual_server(WEB)
    outcome = await change_each("remove the virtual server", removal, [second], await site.run())
    assert outcome.status is ExitStatus.DONE, outcome.message
    assert site.directors[1].ipvs.virtual_servers() == []


async def test_who_waits_in_vain_is_told_how_to_go_on(site: Site, wire: Wire) -> None:
    """The other's lease still runs: 12, with the command that finishes the other once it is over."""
    wire.fault = (3, Fault.KILLED_BEFORE)
    with pytest.raises(Died):
        await site.add(RS1, RS2)
    wire.fault = None
    (name,) = {each.id for each in await site.director.transactions.list_all()}
    site.lock_timeout = 0.3
    outcome = await site.add(RS1, RS2)
    assert outcome.status is ExitStatus.CONFLICT
    assert f"locked by transaction {name}" in outcome.message
    assert [each.command for each in outcome.commands] == [f"lvs txn resolve {name} --wait"]


async def test_a_transaction_whose_lease_still_runs_is_left_alone(site: Site, wire: Wire) -> None:
    """It waits for its application, and no director has heard of it: asking one would have it aborted."""
    request = AddBackend(backend=backend(RS1, protocol="udp"), ready_timeout=30)
    first = asyncio.ensure_future(add_backend(request, await site.run()))
    await until(lambda: bool(site.rs(RS1).vips.list_all()))
    site.lock_timeout = 0.5
    second = await add_backend(request, await site.run())
    assert second.status is ExitStatus.CONFLICT
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.CONFLICT
    (known,) = await site.rs(RS1).transactions.list_all()
    assert (await resolve_transactions(known.id, await site.run())).status is ExitStatus.CONFLICT
    site.rs(RS1).sockets.bound.append(Listener(protocol=Protocol.UDP, address=VIP, port=80))
    outcome = await asyncio.wait_for(first, 10)
    assert outcome.status is ExitStatus.DONE, outcome.message


async def test_what_its_authority_has_ended_is_in_nobodys_way(site: Site, wire: Wire) -> None:
    """The real server could not be told, and its lease still runs; the same command needs not wait for it."""
    wire.fault = (0, Fault.ANSWER_LOST)
    abort = site.rs(RS1).transactions.abort

    async def deaf(*_: Any, **__: Any) -> Any:
        raise ExhaustedError("cannot write the state: the disk is full", Reason.DISK_FULL)

    site.rs(RS1).transactions.abort = deaf  # type: ignore[method-assign]
    assert (await site.add(RS1)).status is ExitStatus.UNFINISHED
    site.rs(RS1).transactions.abort = abort  # type: ignore[method-assign]
    wire.fault = None
    site.lock_timeout = 2.0
    outcome = await site.add(RS1)
    assert outcome.status is ExitStatus.DONE, outcome.message


async def test_what_is_prepared_while_it_is_looked_for_is_not_missed(site: Site, wire: Wire) -> None:
    """The director had only begun to prepare when it was read: its answer to the resolver's question comes after."""
    assert (await site.add(RS1, RS2)).status is ExitStatus.DONE
    wire.fault = (len(wire.sent), Fault.KILLED_AFTER)
    with pytest.raises(Died):
        await site.weight(RS1, draining=True)
    wire.fault = None
    (known,) = await site.director.transactions.list_all()
    get = site.director.transactions.get

    async def too_early(name: str) -> Any:
        site.director.transactions.get = get  # type: ignore[method-assign]
        raise NotFoundError(f"no transaction {name}", Reason.TRANSACTION_NOT_FOUND)

    site.director.transactions.get = too_early  # type: ignore[method-assign]
    assert (await resolve_transactions(known.id, await site.run())).status is ExitStatus.CONFLICT


@pytest.mark.parametrize("site", [2], indirect=True)
async def test_a_commit_that_is_still_on_its_way_is_not_undone_around(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no answer, a second one an error; it arrives when the authority has said that nothing is decided."""
    transactions, asked = site.director.transactions, AgentClient.ask
    commit, get = transactions.commit, transactions.get
    late: list[Callable[[], Any]] = []

    async def slow(client: AgentClient, method: Any, request: Any) -> Any:
        if isinstance(request, CommitTransactionRequest) and not late:
            late.append(lambda: commit(request.transaction_id, request.fence))
            raise NoAnswerError(str(client.agent), "it is slow", sent=True)
        return await asked(client, method, request)

    async def full(name: str, fence: int) -> Any:
        raise ExhaustedError("cannot write the state: the disk is full", Reason.DISK_FULL)

    async def arrives_after(name: str) -> Any:
        answer = await get(name)
        transactions.commit, transactions.get = commit, get  # type: ignore[method-assign]
        await late[0]()
        return answer

    monkeypatch.setattr(AgentClient, "ask", slow)
    transactions.commit, transactions.get = full, arrives_after  # type: ignore[method-assign]
    outcome = await site.add(RS1)
    assert outcome.status is ExitStatus.DONE, outcome.message
    assert backends(site) == [{f"{RS1}:80"}] * 2
    assert_safe(site)


@pytest.mark.parametrize("site", [2], indirect=True)
@pytest.mark.parametrize("name", ["", "somebody-else"])
async def test_a_director_that_does_not_answer_may_have_something_open(site: Site, name: str) -> None:
    """Then nobody says that there is nothing to resolve, and ends with 0."""
    await site.served.kill("d2")
    outcome = await resolve_transactions(name, await site.run())
    assert outcome.status is ExitStatus.UNREACHABLE
    assert outcome.message.startswith("cannot tell whether that is all: ")
    assert "d2.sock" in outcome.message


async def test_a_real_server_that_does_not_answer_is_a_warning(site: Site) -> None:
    """It may be gone for good, long after it took part in anything."""
    assert (await site.add(RS1)).status is ExitStatus.DONE
    await site.served.kill(RS1)
    outcome = await resolve_transactions("", await site.run())
    assert (outcome.status, outcome.message) == (ExitStatus.DONE, "nothing to resolve")
    assert [f"{RS1}.sock" in each for each in outcome.warnings] == [True]
