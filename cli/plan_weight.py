"""The plans of drain, undrain and weight, and the rules that they share with remove-backend. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lvsagent.v1 import host_service_pb2

from agent_common import wire
from agent_common.destination import DestinationKey, Forwarding
from agent_common.errors import NotFoundError, Reason, RefusedError
from agent_common.operation import Operation
from agent_common.vip import VirtualServerHolder
from agent_common.virtual_server import IpAddress, ServiceAddress
from cli import operations
from cli.add_warnings import leftover_commands, leftover_warnings
from cli.facts import DirectorFacts, RealServerFacts, ends_at, vips_of
from cli.out import is_wanted, others_out, out_warnings, takes_connections
from cli.outcome import StepReport, StepResult
from cli.plan import Plan, Step
from cli.request import Backend, SetWeight
from cli.site import real_server
from cli.typed import options_of, suggest
from cli.vip_step import vip_steps


def plan(
    request: SetWeight, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Plan:
    """Return the steps; raises LvsError for what forbids them."""
    for facts in directors:
        _check(request, facts)
    for address, found in real_servers.items():
        found.check(address)
    steps = [
        *_real_server_steps(request, directors, real_servers),
        *_wait_steps(request, directors, real_servers),
        *_director_steps(request, directors),
    ]
    names = ", ".join(str(key) for key in request.backend.real_servers)
    return Plan(
        purpose=f"{_verb(request)} {names} in {request.backend.key}",
        agents={each.agent: each.host.agent_id for each in directors}
        | {each.agent: each.host.agent_id for each in real_servers.values()},
        steps=tuple(steps),
        found=tuple(_in_place(request, directors)),
        warnings=(
            *(line for facts in directors for line in _warnings(request, facts)),
            *_unprepared(request, directors, real_servers),
        ),
        commands=tuple(leftover_commands(directors, request.backend)),
    )


def director_operations(request: SetWeight, directors: Sequence[DirectorFacts]) -> list[Operation]:
    """Return what every director is asked what it would do about, in the order of the request."""
    return [
        operations.update_destination(request.backend.key, key, weight=request.weight, draining=request.draining)
        for key in request.backend.real_servers
        if all(key in each.destinations for each in directors)
    ]


def describe(request: SetWeight) -> str:
    """Return in a word or two what was asked for."""
    if request.draining is None:
        return f"weight {request.weight}"
    return "draining" if request.draining else "no longer draining"


def is_zero(request: SetWeight) -> bool:
    """Whether the destinations will get no new connections."""
    return request.weight == 0 or request.draining is True


def raises_from_zero(request: SetWeight, directors: Sequence[DirectorFacts], address: IpAddress) -> bool:
    """Whether a real server that the VIP must be on begins to get connections: then its agent is asked again (P1)."""
    if any(facts.route(address).local for facts in directors):
        return False
    return any(
        not is_wanted(status) and not _stays_at_zero(request, status.destination.draining)
        for facts in directors
        for key in request.backend.real_servers
        if key.address == address and (status := facts.destinations.get(key)) is not None
        if status.destination.forwarding is not Forwarding.MASQUERADING
    )


def real_server_operations(
    request: SetWeight, directors: Sequence[DirectorFacts], address: IpAddress
) -> list[Operation]:
    """Return what the real server is asked for: the VIPs, as add-backend does."""
    holder = VirtualServerHolder(key=request.backend.key, authority=directors[0].host.agent_id)
    keys = request.backend.real_servers
    found = [facts.destinations[key].destination for facts in directors for key in keys if key in facts.destinations]
    vips = vips_of(request.backend, directors)
    return [operations.create_vip(vip, holder, tunnels=ends_at(found, address)) for vip in vips]


def last_destination(facts: DirectorFacts, keys: Sequence[DestinationKey]) -> bool:
    """Whether the virtual server would be left without a destination that takes connections, and has one now.

    One that its checks have out takes none, whatever weight the operator wants.
    """
    taking = {key for key, status in facts.destinations.items() if takes_connections(status)}
    return bool(taking) and taking <= set(keys)


def check_zero(facts: DirectorFacts, backend: Backend) -> None:
    """Raise RefusedError where weight 0 refuses clients instead of sending them elsewhere (KERNEL.md)."""
    server = facts.server
    if server is None or not server.refuses_at_weight_zero:
        return
    fallback = "" if server.scheduler == "dh" else f", or set {server.scheduler}-fallback first (lvs service edit)"
    error = RefusedError(
        f"{facts.agent}: under scheduler {server.scheduler} weight 0 refuses the clients of that real server instead "
        f"of sending them elsewhere; remove it with --no-drain{fallback}",
        Reason.WEIGHT_ZERO_REFUSES,
        virtual_server=str(server.key),
    )
    raise suggest(error, "to remove it at once", f"lvs remove-backend {options_of(backend)} --no-drain")


def persistence_warning(facts: DirectorFacts) -> Iterator[str]:
    """Say that clients come back to a drained server, where they do."""
    if facts.server is None or facts.server.persistence is None:
        return
    if not facts.settings().get("ipv4/vs/expire_quiescent_template"):
        yield (
            f"{facts.agent}: {facts.server.key} is persistent and net.ipv4.vs.expire_quiescent_template is 0: "
            "returning clients still reach the drained real server"
        )


def _check(request: SetWeight, facts: DirectorFacts) -> None:
    key = request.backend.key
    for destination in request.backend.real_servers:
        if destination not in facts.destinations:
            raise NotFoundError(
                f"{facts.agent}: there is no destination {destination} in {key}", Reason.DESTINATION_NOT_FOUND
            )
    keys = request.backend.real_servers
    if is_zero(request) and any(is_wanted(facts.destinations[each]) for each in keys):
        check_zero(facts, request.backend)
        if not request.force and last_destination(facts, keys):
            raise RefusedError(
                f"{facts.agent}: {key} would have no destination left that takes connections"
                f"{others_out(facts, keys)}; use --force",
                Reason.LAST_DESTINATION,
            )
    facts.check_answer()


def _real_server_steps(
    request: SetWeight, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[Step]:
    for address, facts in real_servers.items():
        if facts.changes:
            yield from vip_steps(facts, real_server_operations(request, directors, address))


def _wait_steps(
    request: SetWeight, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[Step]:
    """With --wait: undrain asks whether the application is there before it gets connections."""
    key = request.backend.key
    if request.wait is None or is_zero(request) or not isinstance(key, ServiceAddress) or key.port == 0:
        return
    for address in real_servers:
        listener = host_service_pb2.CheckListenerRequest(
            protocol=wire.pack_enum(wire.PROTOCOLS, key.protocol), address=str(key.address), port=key.port
        )
        yield Step(
            agent=real_server(address),
            title=f"wait until something takes {key.protocol.name} on {key.address} port {key.port}",
            listener=listener,
            seconds=request.wait,
        )


def _director_steps(request: SetWeight, directors: Sequence[DirectorFacts]) -> Iterator[Step]:
    """Where one director has something to change, all are asked: there it is locked, and stays as it is."""
    numbers = _to_change(directors)
    wanted = director_operations(request, directors)
    names = ", ".join(str(request.backend.real_servers[number]) for number in numbers)
    for facts in directors if numbers else ():
        planned = tuple(facts.changes[number] for number in numbers)
        yield Step(
            agent=facts.agent,
            title=f"{_verb(request)} {names} in {request.backend.key}",
            undo="put back what was",
            operations=tuple(wanted[number] for number in numbers),
            planned=planned,
            details=tuple(action for change in planned for action in change.actions),
        )


def _to_change(directors: Sequence[DirectorFacts]) -> list[int]:
    """Return the numbers of the destinations that a director would change."""
    answers = zip(*(each.changes for each in directors), strict=True)
    return [number for number, changes in enumerate(answers) if any(change.made for change in changes)]


def _warnings(request: SetWeight, facts: DirectorFacts) -> Iterator[str]:
    yield from leftover_warnings(facts, request.backend)
    if is_zero(request):
        yield from persistence_warning(facts)
    else:
        yield from out_warnings(facts, request.backend.real_servers)


def _unprepared(request: SetWeight, directors: Sequence[DirectorFacts], asked: Iterable[IpAddress]) -> Iterator[str]:
    if not vips_of(request.backend, directors):
        yield from (
            f"{each} is not asked whether it is ready: no director holds a VIP for {request.backend.key}"
            for each in asked
        )


def _in_place(request: SetWeight, directors: Sequence[DirectorFacts]) -> Iterator[StepReport]:
    changed = _to_change(directors)
    for facts in directors:
        for number, key in enumerate(request.backend.real_servers):
            if number not in changed:
                title = f"{key} in {request.backend.key}: {describe(request)}"
                yield StepReport(agent=facts.agent, title=title, result=StepResult.IN_PLACE)


def _stays_at_zero(request: SetWeight, draining: bool) -> bool:
    """A weight that is set during a drain waits for its end."""
    return is_zero(request) or (draining and request.draining is None)


def _verb(request: SetWeight) -> str:
    if request.draining is None:
        return f"set weight {request.weight} of"
    return "drain" if request.draining else "end the drain of"
