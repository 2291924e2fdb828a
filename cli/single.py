"""Single-resource commands: one operation on each of some agents, all or none. A library: no printing, no typer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lvsagent.v1 import health_pb2

from agent_common import wire
from agent_common.errors import TAKEN_BACK, LvsError
from agent_common.operation import Change, Operation
from agent_common.wire_health import unpack_policy
from agent_common.wire_table import unpack_steps
from cli.client import AgentClient
from cli.errors import ExitStatus, Interrupted, NoAnswerError, may_have_changed, naming
from cli.outcome import Outcome, StepResult
from cli.plan import Plan, Step
from cli.policy_text import policy_lines
from cli.rule_writer import describe
from cli.site import AgentName
from cli.together import together
from cli.typed import once_all_run
from cli.workflow import Confirm, Run, begin, make_runner, refused, run_steps, undo, until_undisturbed


async def change_each(
    title: str,
    operation: Operation,
    agents: Sequence[AgentName],
    run: Run,
    *,
    warnings: Sequence[str] = (),
    confirm: Confirm | None = None,
) -> Outcome:
    """Have every agent check the operation, then carry it out on one after the other; on failure take it back.

    confirm is asked first whether the plan shall be carried out. Returns the outcome with its exit status; raises
    nothing that an operator could be told.
    """
    asked = dict.fromkeys(agents, operation)
    return await until_undisturbed(run, lambda run: attempt(title, asked, run, warnings=warnings, confirm=confirm))


async def attempt(
    title: str,
    operations: Mapping[AgentName, Operation],
    run: Run,
    *,
    warnings: Sequence[str] = (),
    confirm: Confirm | None = None,
) -> Outcome:
    """Try once what change_each does, with an operation for each agent."""
    outcome = Outcome(transaction=run.transaction)
    agents, wanted = list(operations), list(operations.values())
    if wanted[0].HasField("apply_table") and len(agents) == 1 and confirm is None and not run.dry_run:
        return await _apply_at_once(Step(agent=agents[0], title=title, operations=(wanted[0],)), run, outcome, warnings)
    checks = (_check(run.clients[agent], _copy(each)) for agent, each in operations.items())
    try:
        changes = await run.interrupt.during(together(checks))
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(outcome, error)
    steps = tuple(
        Step(agent=agent, title=title, operations=(_copy(each),), details=_details(change, run))
        for agent, each, change in zip(agents, wanted, changes, strict=True)
        if change.made
    )
    notes = [f"{agent}: {line}" for agent, each in zip(agents, changes, strict=True) for line in each.warnings]
    plan = Plan(steps=steps, warnings=(*warnings, *notes))
    if not begin(plan, run, outcome):
        return outcome
    if not steps:
        outcome.message = f"nothing to do: {title}"
        return outcome
    try:
        if confirm is not None and not await run.interrupt.during(confirm(plan)):
            outcome.status, outcome.message = ExitStatus.ROLLED_BACK, "not confirmed; nothing was changed"
            return outcome
    except Interrupted as error:
        return refused(outcome, error)
    return await run_steps(steps, run, outcome, f"done: {title}")


async def _apply_at_once(step: Step, run: Run, outcome: Outcome, warnings: Sequence[str]) -> Outcome:
    """Send a whole table to its only agent once: it checks all of it before it begins, as it does when only asked."""
    begin(Plan(steps=(step,), warnings=tuple(warnings)), run, outcome)
    runner = make_runner(run, outcome)
    failed = await runner.run((step,))
    if failed is None:
        is_done = outcome.steps[-1].result is StepResult.DONE
        outcome.message = f"done: {step.title}" if is_done else f"nothing to do: {step.title}"
        return outcome
    error = failed.error
    if isinstance(error, LvsError) and not may_have_changed(error) and TAKEN_BACK not in error.metadata:
        error.message = f"{step.agent}: {error.message}"
        return refused(outcome, error)
    return await undo(runner, failed, outcome, once_all_run())


def _details(change: Change, run: Run) -> tuple[str, ...]:
    """Return what a change does; of a table only who asks for that alone wants to see all of it."""
    if not (run.dry_run and change.HasField("table")):
        return tuple(change.actions)
    return (*map(describe, unpack_steps(change.table.steps)), *map(_describe_health, change.table.health))


def _describe_health(change: health_pb2.HealthChange) -> str:
    key = wire.unpack_key(change.virtual_server)
    if not change.HasField("after"):
        return f"check {key} no more"
    return f"check {key}: {'; '.join(policy_lines(unpack_policy(change.after)))}"


async def _check(client: AgentClient, operation: Operation) -> Change:
    with naming(client.agent):
        return await client.apply(operation, "", validate_only=True)


def _copy(operation: Operation) -> Operation:
    copy = Operation()
    copy.CopyFrom(operation)
    return copy
