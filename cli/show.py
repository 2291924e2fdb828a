"""Commands that only read: what they ask for, and how it is printed."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from agent_common.errors import RefusedError
from agent_common.table import Table
from cli import session, tables
from cli.client import AgentClient, Clients
from cli.errors import ExitStatus, status_of, text_of
from cli.health_reading import find_policies, read_checked
from cli.interrupt import Interrupt
from cli.reading import (
    DirectorState,
    Reading,
    RealServerState,
    list_virtual_servers,
    needed_real_servers,
    read_all,
    read_director,
    read_real_server,
    real_servers_of,
    table_of,
)
from cli.site import AgentName, Site
from cli.terminal import Terminal

if TYPE_CHECKING:
    from lvsagent.v1 import connection_service_pb2

    from cli.list_table import Naming
    from cli.transactions import Found

_T = TypeVar("_T")


def run_reading(
    site: Site,
    terminal: Terminal,
    agents: Sequence[AgentName],
    read: Callable[[AgentClient], Awaitable[_T]],
    lines: Callable[[AgentName, _T], Sequence[str]],
) -> int:
    """Read agents, print what each answered, and return the exit status: of the first that did not, if one did not."""

    async def run(clients: Clients, interrupt: Interrupt) -> list[Reading[_T]]:
        return await read_all(clients, agents, read)

    return _print(terminal, session.run(site, terminal, run), lines)


def run_merged(
    site: Site,
    terminal: Terminal,
    agents: Sequence[AgentName],
    read: Callable[[AgentClient], Awaitable[_T]],
    lines: Callable[[Sequence[Reading[_T]]], Sequence[str]],
) -> int:
    """Read agents, print what all of them answered as one list, and return the worst exit status."""

    async def run(clients: Clients, interrupt: Interrupt) -> list[Reading[_T]]:
        return await read_all(clients, agents, read)

    readings = session.run(site, terminal, run)
    if terminal.json:
        _document(terminal, agents=readings)
        return _worst(readings)
    terminal.lines(lines(readings))
    for each in readings:
        if each.error is not None:
            terminal.say(f"lvs: {text_of(each.error)}")
    return _worst(readings)


def run_status(site: Site, terminal: Terminal) -> int:
    """Read every director, then the real servers that they send clients to; print all of it.

    The exit status is that of the first that did not answer and should: a foreign destination need not have an agent.
    """

    directors, real_servers = session.run(site, terminal, lambda clients, _: _read_site(clients, read_checked))
    by_address = {each.agent.name: each for each in real_servers}
    if terminal.json:
        _document(terminal, agents=directors, real_servers=real_servers)
    else:
        now = datetime.datetime.now(datetime.UTC)
        _lines(
            terminal,
            directors,
            lambda agent, state: tables.status_lines(agent, state, by_address, now, terminal.width),
            names=False,
        )
    _warn_of_expiry(site, terminal, [*directors, *real_servers])
    return _worst([*directors, *_missed(terminal, directors, real_servers)])


def run_save(site: Site, terminal: Terminal) -> int:
    """Print the table of the first director; what rules of ipvsadm cannot say is counted beside it."""
    from cli.rule_writer import write_rules
    from cli.table_json import write_table

    async def read(client: AgentClient) -> tuple[Table, RefusedError | None]:
        table = table_of(await list_virtual_servers(client))
        try:
            policies = await find_policies(client)
        except RefusedError as error:  # the journal is corrupt, and the kernel's table is all there is
            return table, error
        for key in table.keys() & policies.keys():
            table[key].health = policies[key]
        return table, None

    (found,) = session.run(site, terminal, lambda clients, _: read_all(clients, site.director_names()[:1], read))
    if found.answer is None:
        return _print(terminal, [found], lambda agent, answer: ())
    table, lacks = found.answer
    if lacks is not None:
        terminal.say(f"lvs: health checks are not saved: {lacks.message}")
    if terminal.json:
        terminal.document(write_table(table))
        return 0 if lacks is None else int(status_of(lacks))
    terminal.lines(write_rules(table))
    destinations = [each for entry in table.values() for each in entry.destinations.values()]
    lost = {
        "virtual servers with health checks": sum(entry.health is not None for entry in table.values()),
        "destinations that have thresholds": sum(
            bool(each.upper_threshold or each.lower_threshold) for each in destinations
        ),
        "destinations that drain": sum(each.draining for each in destinations),
    }
    for what, count in lost.items():
        if count:
            terminal.say(f"lvs: {what}, which these rules cannot say: {count}; --output json can")
    return 0


def run_connections(
    site: Site,
    terminal: Terminal,
    request: connection_service_pb2.ListConnectionsRequest,
    *,
    engines: bool,
    naming: Naming,
) -> int:
    """Print the connections of every director, as they come; as JSON when all are there."""
    from lvsagent.v1 import connection_service_pb2_grpc
    from lvsagent.v1.connection_service_pb2 import ListConnectionsResponse

    from cli.connection_table import connection_line, heading

    async def one(client: AgentClient) -> ListConnectionsResponse:
        stub = connection_service_pb2_grpc.ConnectionServiceStub(client.channel)
        found = ListConnectionsResponse()
        async for answer in client.stream(stub.ListConnections, request):
            if terminal.json:
                found.MergeFrom(answer)
                continue
            terminal.lines(connection_line(each, engines=engines, naming=naming) for each in answer.connections)
            if answer.next_page_token:
                terminal.say(f"lvs: {client.agent}: only the first {request.page_size} are shown")
        return found

    async def run(clients: Clients, interrupt: Interrupt) -> list[Reading[ListConnectionsResponse]]:
        readings = []
        names = site.director_names()
        for agent in names:
            if not terminal.json:
                terminal.lines([*([f"{agent}:"] if len(names) > 1 else []), *heading(engines=engines)])
            readings += await read_all(clients, [agent], one)
            if not terminal.json and readings[-1].error is not None:
                terminal.say(f"lvs: {text_of(readings[-1].error)}")
        return readings

    readings = session.run(site, terminal, run)
    if terminal.json:
        _document(terminal, agents=readings)
    return _worst(readings)


def run_drift(site: Site, terminal: Terminal) -> int:
    """Read every director and the real servers that they send clients to; print what differs from their journals."""
    directors, real_servers = session.run(site, terminal, lambda clients, _: _read_site(clients, read_director))
    found: list[Reading[Any]] = [*directors]
    found += real_servers
    if terminal.json:
        terminal.document({"agents": [tables.drift_as_json(each) for each in found]})
    else:
        lines = [line for each in found for line in tables.drift_lines(each.agent, each.answer)]
        terminal.lines(lines or ["nothing differs from what was committed"])
        for each in directors:
            if each.error is not None:
                terminal.say(f"lvs: {text_of(each.error)}")
    return _worst([*directors, *_missed(terminal, directors, real_servers)])


def run_transactions(site: Site, terminal: Terminal, name: str, *, decided: bool) -> int:
    """Read transactions at every agent, or one of them, and print them."""
    from cli import transaction_tables
    from cli.transactions import get_transactions, read_transactions

    async def read(clients: Clients, interrupt: Interrupt) -> Found:
        return await (get_transactions(clients, name) if name else read_transactions(clients, decided=decided))

    answers = session.run(site, terminal, read)
    found = answers.known
    for error in answers.silent.values():
        terminal.say(f"lvs: {text_of(error)}")
    status = int(ExitStatus.DONE if answers.worst is None else status_of(answers.worst))
    if terminal.json:
        terminal.document({"transactions": [transaction_tables.transaction_as_json(each) for each in found]})
        return status or (int(ExitStatus.REFUSED) if name and not found else 0)
    terminal.lines(transaction_tables.transaction_lines(found, whole=bool(name)))
    if name and not found:
        terminal.say(f"lvs: no agent that answers knows transaction {name}")
        return status or int(ExitStatus.REFUSED)
    if not found:
        terminal.data("no transactions" if not status else "no transactions at the agents that answer")
    return status


async def _read_site(
    clients: Clients, read: Callable[[AgentClient], Awaitable[DirectorState]]
) -> tuple[list[Reading[DirectorState]], list[Reading[RealServerState]]]:
    directors = await read_all(clients, clients.site.director_names(), read)
    states = [each.answer for each in directors if each.answer is not None]
    return directors, await read_all(clients, real_servers_of(states), read_real_server)


def _warn_of_expiry(
    site: Site, terminal: Terminal, readings: Sequence[Reading[DirectorState] | Reading[RealServerState]]
) -> None:
    hosts = [(each.agent, each.answer.host) for each in readings if each.answer is not None]
    if site.tls is None and not any(host.HasField("certificate_expires") for _, host in hosts):
        return
    from cli.expiry import expiry_warnings

    for line in expiry_warnings(hosts, site.tls, datetime.datetime.now(datetime.UTC)):
        terminal.say(f"lvs: {line}")


def _missed(
    terminal: Terminal, directors: Sequence[Reading[DirectorState]], real_servers: Sequence[Reading[RealServerState]]
) -> list[Reading[RealServerState]]:
    """Tell of the real servers that did not answer and should have, and return them."""
    needed = needed_real_servers(each.answer for each in directors if each.answer is not None)
    missed = [each for each in real_servers if each.error is not None and each.agent in needed]
    for each in missed:
        terminal.say(f"lvs: {text_of(each.error)}")
    return missed


def _print(terminal: Terminal, readings: Sequence[Reading[_T]], lines: Callable[[AgentName, _T], Sequence[str]]) -> int:
    if terminal.json:
        _document(terminal, agents=readings)
    else:
        _lines(terminal, readings, lines, names=len(readings) > 1)
    return _worst(readings)


def _document(terminal: Terminal, **readings: Sequence[Reading[Any]]) -> None:
    terminal.document({name: [tables.reading_as_json(each) for each in found] for name, found in readings.items()})


def _lines(
    terminal: Terminal,
    readings: Sequence[Reading[_T]],
    lines: Callable[[AgentName, _T], Sequence[str]],
    *,
    names: bool,
) -> None:
    for number, reading in enumerate(readings):
        if reading.error is not None:
            terminal.say(f"lvs: {text_of(reading.error)}")
        elif reading.answer is not None:
            if names:
                terminal.data(("\n" if number else "") + f"{reading.agent}:")
            terminal.lines(lines(reading.agent, reading.answer))


def _worst(readings: Sequence[Reading[Any]]) -> int:
    return max((int(status_of(each.error)) for each in readings if each.error is not None), default=0)
