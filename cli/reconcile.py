"""reconcile, from reading what differs to the outcome. A library: no printing, no typer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from lvsagent.v1 import drift_service_pb2, drift_service_pb2_grpc, host_service_pb2

from agent_common import wire_vip
from agent_common.drift import Drift
from agent_common.errors import ConflictError, LvsError, Reason
from agent_common.grpc_errors import from_item
from agent_common.virtual_server import IpAddress
from agent_common.wire_drift import pack_drift, unpack_drift
from cli import plan_reconcile
from cli.client import AgentClient
from cli.errors import ExitStatus, Interrupted, NoAnswerError, naming, text_of
from cli.outcome import Outcome, StepReport, StepResult
from cli.plan import Plan, Step, report_made
from cli.plan_reconcile import AgentRepairs, Raise, Reconcile, Repair
from cli.preflight import read_real_server
from cli.reading import DirectorState, list_drift, needed_real_servers, read_director
from cli.site import AgentName, real_server
from cli.together import together
from cli.typed import SAME_AGAIN, NextCommand
from cli.workflow import Confirm, Run, begin, refused, reporter, resolve_blocking

CHUNK = 100
"""So many repairs are asked for at once: an agent has --timeout for the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What was found at every agent, and the plan that comes of it."""

    plan: Plan
    directors: Sequence[AgentRepairs]
    real_servers: Sequence[AgentRepairs]
    vip_steps: Sequence[Step]


async def reconcile(request: Reconcile, run: Run, confirm: Confirm) -> Outcome:
    """Bring every host back to what was committed, after confirm has agreed to the plan.

    What is repaired stays repaired, whatever comes after it. Returns the outcome with its exit status; raises nothing
    that an operator could be told.
    """
    outcome = Outcome(transaction=run.transaction)
    try:
        work = await run.interrupt.during(_read(request, run))
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(outcome, error)
    if not begin(work.plan, run, outcome):
        return outcome
    try:
        if work.plan.steps and not await run.interrupt.during(confirm(work.plan)):
            outcome.status, outcome.message = ExitStatus.ROLLED_BACK, "not confirmed; nothing was changed"
            return outcome
        await _Reconciling(run, outcome).carry_out(work)
    except (LvsError, NoAnswerError, Interrupted) as error:
        return _stopped(outcome, error)
    return _ended(outcome)


async def _read(request: Reconcile, run: Run) -> Work:
    clients = run.clients
    states = await together(_read_director(clients[name]) for name in clients.site.director_names())
    if request.key is not None:
        held = [wire_vip.unpack_vip(each) for state in states for each in state.vips]
        request = replace(request, vips=plan_reconcile.vips_of_key(request.key, held))
    directors = [
        replace(
            await _validate(request, clients[agent], state.host, [unpack_drift(each) for each in state.drift]),
            vips=tuple(map(wire_vip.unpack_vip, state.vips)),
        )
        for agent, state in zip(clients.site.director_names(), states, strict=True)
    ]
    warnings: list[str] = []
    raises = await _not_local(run, plan_reconcile.raised(directors))
    if not request.ask_real_servers:
        warnings.append("the real servers are not asked: VIP, ARP and application are not checked")
        raises = []
    warnings.extend(
        f"{each.address} is not asked whether it is ready: no director holds a VIP for {each.key}"
        for each in raises
        if not each.vips
    )
    raises = [each for each in raises if each.vips]
    real_servers = []
    for agent in _real_servers(states, directors) if request.ask_real_servers else []:
        try:
            real_servers.append(await _read_real_server(request, clients[agent]))
        except (LvsError, NoAnswerError) as error:
            warnings.append(f"what differs there is not known: {text_of(error)}")
    facts = await together(
        read_real_server(
            clients[real_server(each.address)],
            each.key,
            plan_reconcile.real_server_operations(each, directors),
        )
        for each in raises
    )
    asked = list(zip(raises, facts, strict=True))
    plan = plan_reconcile.plan(request, directors, real_servers, asked, warnings)
    vip_steps = [step for each, found in asked for step in plan_reconcile.raise_steps(each, found, directors)]
    return Work(plan=plan, directors=directors, real_servers=real_servers, vip_steps=vip_steps)


async def _read_director(client: AgentClient) -> DirectorState:
    with naming(client.agent):
        state = await read_director(client, look_now=True)
    client.check_version(state.host.version)
    return state


async def _read_real_server(request: Reconcile, client: AgentClient) -> AgentRepairs:
    with naming(client.agent):
        host = await client.host()
        drift = [unpack_drift(each) for each in await list_drift(client, look_now=True)]
    client.check_version(host.version)
    return await _validate(request, client, host, drift)


async def _validate(
    request: Reconcile, client: AgentClient, host: host_service_pb2.GetHostResponse, drift: Sequence[Drift]
) -> AgentRepairs:
    """Ask an agent what it would do about what differs there."""
    mine = [each for each in drift if plan_reconcile.concerns(request, each)]
    wanted = plan_reconcile.in_order(each for each in mine if not plan_reconcile.is_foreign(each))
    asked = [drift_service_pb2.Repair(drift=pack_drift(each)) for each in wanted]
    results = await ask_to_repair(client, asked, validate_only=True)
    return AgentRepairs(
        agent=client.agent,
        host=host,
        foreign=tuple(each for each in mine if plan_reconcile.is_foreign(each)),
        repairs=tuple(Repair(drift=each, result=result) for each, result in zip(wanted, results, strict=True)),
    )


async def ask_to_repair(
    client: AgentClient, repairs: Sequence[drift_service_pb2.Repair], *, validate_only: bool
) -> list[drift_service_pb2.RepairResult]:
    """Have an agent repair things, or only say what that would do."""
    stub = drift_service_pb2_grpc.DriftServiceStub(client.channel)
    results: list[drift_service_pb2.RepairResult] = []
    with naming(client.agent):
        for start in range(0, len(repairs), CHUNK):
            request = drift_service_pb2.RepairDriftRequest(
                repairs=repairs[start : start + CHUNK], validate_only=validate_only
            )
            results.extend((await client.ask(stub.RepairDrift, request)).results)
    return results


def _real_servers(states: Sequence[DirectorState], directors: Sequence[AgentRepairs]) -> list[AgentName]:
    """Return the real servers that hold a VIP for us, those of destinations that are missing too."""
    put_back = plan_reconcile.behind(each.result.change for found in directors for each in found.possible)
    found = dict.fromkeys([*needed_real_servers(states), *(real_server(address) for address in put_back)])
    return sorted(found, key=lambda agent: agent.name)


async def _not_local(run: Run, raises: Sequence[Raise]) -> list[Raise]:
    """Leave out a real server that is itself a director: no VIP belongs on its lo."""
    local: set[IpAddress] = set()
    addresses = list(dict.fromkeys(each.address for each in raises))
    if addresses:
        hosts = await together(
            run.clients[name].host(str(each) for each in addresses) for name in run.clients.site.director_names()
        )
        local = {
            each for each in addresses for host in hosts for r in host.routes if r.destination == str(each) and r.local
        }
    return [each for each in raises if each.address not in local]


class _Reconciling:
    """Carries out the plan; every report goes into the outcome as it happens."""

    def __init__(self, run: Run, outcome: Outcome) -> None:
        self._run = run
        self._report = reporter(run, outcome)

    async def carry_out(self, work: Work) -> None:
        """Repair real servers, make sure of the VIP where connections will go, then repair the directors."""
        for found in work.real_servers:
            await self._repair(found)
        for number, step in enumerate(work.vip_steps):
            self._run.interrupt.check()
            with naming(step.agent):
                change = await self._run.clients[step.agent].apply(
                    step.operations[0], f"{self._run.transaction}.{number}"
                )
            self._report(report_made(step, [change]))
        for found in work.directors:
            await self._repair(found)

    async def _repair(self, found: AgentRepairs) -> None:
        repairs = found.possible
        if not repairs:
            return
        self._run.interrupt.check()
        client = self._run.clients[found.agent]
        await client.make_sure()
        results = await self._until_unlocked(
            lambda: ask_to_repair(client, [each.message() for each in repairs], validate_only=False)
        )
        for each, result in zip(repairs, results, strict=True):
            step = Step(agent=found.agent, title=each.title)
            if result.HasField("error"):
                why = (from_item(result.error).message,)
                self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.FAILED, details=why))
            else:
                self._report(report_made(step, [result.change]))

    async def _until_unlocked(
        self, ask: Callable[[], Awaitable[list[drift_service_pb2.RepairResult]]]
    ) -> list[drift_service_pb2.RepairResult]:
        """Ask for the very same again while a transaction has one of the things, for --lock-timeout."""
        deadline = time.monotonic() + self._run.clients.site.lock_timeout
        while True:
            try:
                return await ask()
            except ConflictError as error:
                if error.reason is not Reason.LOCKED or time.monotonic() >= deadline:
                    raise
                await resolve_blocking(error.metadata.get("transaction", ""), self._run)
                await self._run.interrupt.sleep(0.3)


def _stopped(outcome: Outcome, error: LvsError | NoAnswerError | Interrupted) -> Outcome:
    """Say what ended it, and that what was repaired by then stays so."""
    done = any(step.result is StepResult.DONE for step in outcome.steps)
    unknown = isinstance(error, NoAnswerError) and error.sent
    refused(outcome, error)
    if done or unknown:
        stays = "what was repaired before stays repaired" if done else "perhaps some of it was repaired"
        outcome.message = f"{text_of(error) or 'interrupted'}; {stays}"
        if not isinstance(error, ConflictError):
            outcome.status = ExitStatus.UNFINISHED
    outcome.commands.append(NextCommand(purpose="to see what differs now, and repair it", command=SAME_AGAIN))
    return outcome


def _ended(outcome: Outcome) -> Outcome:
    done = sum(step.result is StepResult.DONE for step in outcome.steps)
    failed = sum(step.result is StepResult.FAILED for step in outcome.steps)
    outcome.message = f"{done} repaired" if done else "nothing to repair"
    if failed:
        outcome.status = ExitStatus.UNFINISHED if done else ExitStatus.REFUSED
        outcome.message = f"{done} repaired, {failed} could not be"
    return outcome
