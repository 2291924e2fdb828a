"""The plan of remove-backend: a pure function of the request and of what preflight has read.

The drain on the authority is the decision; from then on the removal only goes forward. A real server gives its VIP up
only when every director has answered that the destination is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent_common import wire
from agent_common.destination import DestinationKey, Forwarding
from agent_common.errors import Reason, RefusedError
from agent_common.operation import Operation
from agent_common.vip import VirtualServerHolder
from agent_common.virtual_server import IpAddress
from cli import operations
from cli.facts import DirectorFacts, RealServerFacts, vips_of
from cli.out import others_out
from cli.outcome import StepReport, StepResult
from cli.plan import Plan, Step
from cli.plan_weight import check_zero, last_destination, persistence_warning
from cli.request import RemoveBackend
from cli.site import AgentName, real_server
from cli.typed import NextCommand

Hold = tuple[IpAddress, VirtualServerHolder]
"""A VIP and who holds it for the virtual server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What a removal does, in the order of its parts; each part waits for the one before.

    gone sees that no destination is there any more, whenever that is. removed are the destinations that go; found, what
    is not there or not ours; agents and purpose are those of the transaction.
    """

    purpose: str = ""
    agents: Mapping[AgentName, str] = field(default_factory=dict)
    drain_timeout: float = 0.0
    drains: tuple[Step, ...] = ()
    waits: tuple[Step, ...] = ()
    deletes: tuple[Step, ...] = ()
    gone: tuple[Step, ...] = ()
    releases: tuple[Step, ...] = ()
    prunes: tuple[Step, ...] = ()
    found: tuple[StepReport, ...] = ()
    warnings: tuple[str, ...] = ()
    commands: tuple[NextCommand, ...] = ()
    removed: tuple[DestinationKey, ...] = ()

    @property
    def has_wait(self) -> bool:
        """Whether connections are waited for; a drain that began before was the decision then, too."""
        return bool(self.drains or self.waits)

    @property
    def after(self) -> tuple[Step, ...]:
        """Return what is done after the decision, by whoever finishes, and whenever: it begins with what must be so."""
        return (*(self.gone if self.has_wait or self.releases else ()), *self.releases, *self.prunes)

    def as_transaction(self) -> Plan:
        """Return it as what is decided, and what follows from that."""
        return Plan(
            purpose=self.purpose,
            agents=self.agents,
            steps=self.drains if self.has_wait else self.deletes,
            after=self.after,
            drain_timeout=self.drain_timeout if self.has_wait else 0.0,
        )

    def as_plan(self) -> Plan:
        """Return it as one list of steps, for people."""
        steps = (*self.drains, *self.waits, *self.deletes, *self.releases, *self.prunes)
        return Plan(steps=steps, found=self.found, warnings=self.warnings, commands=self.commands)


def plan(
    request: RemoveBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Removal:
    """Return the parts; raises RefusedError for what forbids them."""
    for facts in directors:
        _check(request, facts)
    for address, asked in real_servers.items():
        asked.check(address)
    ours = {facts.agent: [key for key in request.backend.real_servers if _is_ours(facts, key)] for facts in directors}
    drains = [facts for facts in directors if ours[facts.agent]] if request.drain_timeout is not None else []
    for facts in directors:
        facts.check_answer()
    return Removal(
        purpose=f"remove {_names(request.backend.real_servers)} from {request.backend.key}",
        agents={each.agent: each.host.agent_id for each in directors}
        | {each.agent: each.host.agent_id for each in real_servers.values()},
        drain_timeout=request.drain_timeout or 0.0,
        drains=tuple(
            _drain(request, facts, keys) for facts in drains if (keys := _to_drain(request, directors, facts))
        ),
        waits=tuple(_wait(request, facts, key) for facts in drains for key in ours[facts.agent]),
        deletes=tuple(_delete(request, facts, ours[facts.agent]) for facts in directors if ours[facts.agent]),
        gone=tuple(step for facts in directors if (step := _gone(request, facts, ours[facts.agent])).operations),
        releases=tuple(_releases(request, directors, real_servers)),
        prunes=tuple(_prunes(request, directors)),
        found=tuple(_found(request, directors)),
        warnings=tuple(_warnings(request, directors, real_servers)),
        commands=tuple(_commands(request, directors, real_servers)),
        removed=tuple(key for key in request.backend.real_servers if any(key in each for each in ours.values())),
    )


def decided_operations(
    request: RemoveBackend, directors: Sequence[DirectorFacts], facts: DirectorFacts
) -> list[Operation]:
    """Return what a director is asked for by the decision: to drain, or without a drain to remove."""
    if request.drain_timeout is not None:
        return _drains(request, _to_drain(request, directors, facts))
    return _deletions(request, facts, [each for each in request.backend.real_servers if _is_ours(facts, each)])


def asks_real_server(request: RemoveBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> bool:
    """Whether the real server may hold the VIP for this virtual server, so that its agent must be asked."""
    if not request.ask_real_servers or any(facts.route(address).local for facts in directors):
        return False
    statuses = [
        facts.destinations[key]
        for facts in directors
        for key in request.backend.real_servers
        if key.address == address and key in facts.destinations
    ]
    return not statuses or any(each.destination.forwarding is not Forwarding.MASQUERADING for each in statuses)


def may_be_gone(request: RemoveBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> bool:
    """Whether nothing on record says that the real server still has to do with this virtual server."""
    keys = [key for key in request.backend.real_servers if key.address == address]
    is_there = any(key in facts.destinations for facts in directors for key in keys)
    return not is_there and not any(is_leftover(facts, request, address) for facts in directors)


def _check(request: RemoveBackend, facts: DirectorFacts) -> None:
    """Refuse what would leave clients without an answer."""
    ours = [key for key in request.backend.real_servers if _is_ours(facts, key)]
    if facts.server is None or not ours:
        return
    if not (request.prune or request.force) and last_destination(facts, ours):
        raise RefusedError(
            f"{facts.agent}: {request.backend.key} would have no destination left that takes connections"
            f"{others_out(facts, ours)}; use --prune to remove it too, or --force",
            Reason.LAST_DESTINATION,
        )
    if request.drain_timeout is not None:
        check_zero(facts, request.backend)


def _is_ours(facts: DirectorFacts, key: DestinationKey) -> bool:
    status = facts.destinations.get(key)
    return status is not None and status.managed


def _to_drain(request: RemoveBackend, directors: Sequence[DirectorFacts], facts: DirectorFacts) -> list[DestinationKey]:
    """Return what a director has that does not drain on every one of them: where it does it is locked, and stays so."""
    return [
        key
        for key in request.backend.real_servers
        if _is_ours(facts, key)
        and any(_is_ours(each, key) and not each.destinations[key].destination.draining for each in directors)
    ]


def _drain(request: RemoveBackend, facts: DirectorFacts, keys: Sequence[DestinationKey]) -> Step:
    return Step(
        agent=facts.agent,
        title=f"drain {_names(keys)} in {request.backend.key}",
        undo="end the drain",
        operations=tuple(_drains(request, keys)),
        planned=facts.changes,
    )


def _drains(request: RemoveBackend, keys: Sequence[DestinationKey]) -> list[Operation]:
    return [operations.update_destination(request.backend.key, key, draining=True) for key in keys]


def _wait(request: RemoveBackend, facts: DirectorFacts, key: DestinationKey) -> Step:
    return Step(
        agent=facts.agent,
        title=f"wait at most {request.drain_timeout:g} s for the connections of {key}",
        drained=(request.backend.key, key),
        seconds=request.drain_timeout or 0.0,
    )


def _delete(request: RemoveBackend, facts: DirectorFacts, keys: Sequence[DestinationKey]) -> Step:
    """Remove destinations; until its agent has answered, the director remembers that a real server holds the VIP."""
    return Step(
        agent=facts.agent,
        title=f"remove {_names(keys)}",
        operations=tuple(_deletions(request, facts, keys)),
        planned=facts.changes if request.drain_timeout is None else (),
    )


def _deletions(request: RemoveBackend, facts: DirectorFacts, keys: Sequence[DestinationKey]) -> list[Operation]:
    return [
        operations.delete_destination(
            request.backend.key, key, real_server_keeps_vip=_real_server_keeps_vip(facts, key)
        )
        for key in keys
    ]


def _gone(request: RemoveBackend, facts: DirectorFacts, ours: Sequence[DestinationKey]) -> Step:
    """See that no destination is there that a real server needs its VIP for; one that takes connections forbids it."""
    keys = [key for key in request.backend.real_servers if key not in facts.destinations or key in ours]
    deletions = [
        operations.delete_destination(
            request.backend.key,
            key,
            real_server_keeps_vip=_real_server_keeps_vip(facts, key) if key in ours else None,
            only_if_draining=True,
        )
        for key in keys
    ]
    removes = bool(ours) and request.drain_timeout is not None
    title = f"remove {_names(ours)}" if removes else f"make sure that {_names(keys)} is gone"
    return Step(agent=facts.agent, title=title, operations=tuple(deletions))


def _real_server_keeps_vip(facts: DirectorFacts, key: DestinationKey) -> bool:
    """Whether the real server has the VIP of a destination until its agent has given it back."""
    is_nat = facts.destinations[key].destination.forwarding is Forwarding.MASQUERADING
    return not is_nat and not facts.route(key.address).local


def _releases(
    request: RemoveBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[Step]:
    for address, facts in real_servers.items():
        if _still_used(request, directors, address):
            continue
        ours, others = _holds(request, directors, facts)
        for vip, holder in ours:
            deletion = operations.delete_vip(vip, holder, fence=facts.host.fence)
            yield Step(agent=facts.agent, title=f"give VIP {vip} back", operations=(deletion,))
        for director in directors if not others else ():
            yield from _forgets(request, director, address)


def _holds(
    request: RemoveBackend, directors: Sequence[DirectorFacts], facts: RealServerFacts
) -> tuple[list[Hold], list[Hold]]:
    """Return the holds for this virtual server: those of the directors that were asked, and those of others."""
    asked = {director.host.agent_id for director in directors}
    holds = [
        (vip.address, each)
        for vip in facts.vips
        for each in vip.holders
        if isinstance(each, VirtualServerHolder) and each.key == request.backend.key
    ]
    ours = [(vip, each) for vip, each in holds if each.authority in asked]
    return ours, [each for each in holds if each not in ours]


def _forgets(request: RemoveBackend, director: DirectorFacts, address: IpAddress) -> Iterator[Step]:
    """Let a director forget its note that the real server holds the VIP."""
    keys = [key for key in request.backend.real_servers if key.address == address]
    if any(_is_ours(director, key) for key in keys) or is_leftover(director, request, address):
        yield Step(
            agent=director.agent,
            title=f"note that {address} has given the VIP back",
            operations=(
                operations.delete_destination(
                    request.backend.key, keys[0], real_server_keeps_vip=False, only_if_draining=True
                ),
            ),
        )


def is_leftover(director: DirectorFacts, request: RemoveBackend, address: IpAddress) -> bool:
    """Whether the director has noted that the real server still holds the VIP for this virtual server."""
    return any(
        each.real_server == str(address) and wire.unpack_key(each.virtual_server) == request.backend.key
        for each in director.host.leftovers
    )


def _still_used(request: RemoveBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> bool:
    """Whether a director keeps a destination there: a foreign one, or one with another port."""
    return any(
        key.address == address and not (key in request.backend.real_servers and _is_ours(facts, key))
        for facts in directors
        for key in facts.destinations
    )


def _prunes(request: RemoveBackend, directors: Sequence[DirectorFacts]) -> Iterator[Step]:
    if not request.prune:
        return
    key = request.backend.key
    holders = [VirtualServerHolder(key=key, authority=facts.host.agent_id) for facts in directors]
    for facts in directors:
        yield Step(
            agent=facts.agent,
            title=f"remove virtual server {key} and its hold on the VIP, if nothing uses them",
            operations=(
                operations.delete_virtual_server(key, only_if_unused=True),
                *(
                    operations.delete_vip(vip, holder, keep_if_used=True)
                    for vip in vips_of(request.backend, directors)
                    for holder in holders
                ),
            ),
        )


def _found(request: RemoveBackend, directors: Sequence[DirectorFacts]) -> Iterator[StepReport]:
    for facts in directors:
        for key in request.backend.real_servers:
            title = f"{key} in {request.backend.key}"
            if key not in facts.destinations:
                yield StepReport(agent=facts.agent, title=title, result=StepResult.ABSENT)
            elif not _is_ours(facts, key):
                title += " was not made by lvs, and stays; remove it with ipvsadm"
                yield StepReport(agent=facts.agent, title=title, result=StepResult.FOREIGN)


def _warnings(
    request: RemoveBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[str]:
    for facts in directors:
        if request.drain_timeout is not None and any(_is_ours(facts, key) for key in request.backend.real_servers):
            yield from persistence_warning(facts)
    for key in request.backend.real_servers if not request.ask_real_servers else ():
        if any(_real_server_keeps_vip(facts, key) for facts in directors if _is_ours(facts, key)):
            yield f"{real_server(key.address)} is not asked (--no-rs-agent): it keeps the VIP; the director notes that"
    for address in dict.fromkeys(key.address for key in request.backend.real_servers):
        if asks_real_server(request, directors, address) and address not in real_servers:
            yield f"{real_server(address)} does not answer; whether it still holds the VIP for this is not known"
    for found in real_servers.values():
        for vip, holder in _holds(request, directors, found)[1]:
            yield (
                f"{found.agent} keeps VIP {vip}: a director that was not asked (agent "
                f"{holder.authority}) holds it for {holder.key}, too"
            )


def _commands(
    request: RemoveBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[NextCommand]:
    for found in real_servers.values():
        for vip in dict.fromkeys(vip for vip, _ in _holds(request, directors, found)[1]):
            yield NextCommand(
                purpose=f"to take the VIP from {found.agent}, if the director that was not asked is gone for good",
                command=f"lvs vip remove {vip} --rs {found.agent.name} --force",
            )


def _names(keys: Sequence[DestinationKey]) -> str:
    return ", ".join(str(key) for key in keys)
