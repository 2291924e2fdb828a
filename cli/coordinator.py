"""Carries out a plan as one transaction: real servers first, then directors, one decision, and the rest forward.

The order and its reasons are in docs/explanation/transactions.md. Nothing here is needed to finish: when this process
dies, leases and any later command do (cli/resolve.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from lvsagent.v1.transaction_pb2 import TRANSACTION_STATE_ABORTED

from agent_common.errors import ConflictError, LvsError, NotFoundError, Reason
from agent_common.operation import Change
from agent_common.transaction import Following, Participant, TransactionState, is_inert
from agent_common.wire_transaction import unpack_state
from cli.client import Clients
from cli.errors import Failure, Interrupted, NoAnswerError, may_have_changed, text_of
from cli.interrupt import Interrupt
from cli.member import Member, following_of, members_of, participant
from cli.outcome import StepReport, StepResult
from cli.plan import Plan, Step, edited_meanwhile, report_made
from cli.resolve import Resolution, resolve_one
from cli.runner import TRIES, Failed, again
from cli.site import AgentName, Role
from cli.transaction_client import Transaction, TransactionClient
from cli.waits import wait_as

RENEWALS = 3
"""The lease is renewed so often while it runs."""


class Ending:
    """How a transaction ended.

    failed: the step before the decision that failed. unknown: nobody knows whether it was decided. Neither: the
    authority has recorded it. left: agents that have not done their part, or may not have undone it. edited: what
    somebody has removed or added by hand between preparation and commit, a line each.
    """

    def __init__(self) -> None:
        self.unknown = False
        self.failed: Failed | None = None
        self.left: list[Step] = []
        self.edited: list[str] = []


class Coordinator:
    """Runs one transaction; lease and lock_timeout are in seconds."""

    def __init__(
        self,
        clients: Clients,
        transaction: str,
        interrupt: Interrupt,
        report: Callable[[StepReport], None],
        *,
        lease: float,
        lock_timeout: float,
    ) -> None:
        self._clients = clients
        self._name = transaction
        self._interrupt = interrupt
        self._report = report
        self._lease = lease
        self._lock_timeout = lock_timeout
        self._members: dict[AgentName, Member] = {}
        self._purpose = ""
        self._after: list[Following] = []
        self._drain_timeout = 0.0
        self._directors_by_id: dict[str, AgentName] = {}

    async def run(self, plan: Plan) -> Ending:
        """Carry a plan out; whatever fails before the decision is undone."""
        self._purpose = plan.purpose
        self._directors_by_id = {name: agent for agent, name in plan.agents.items() if agent.role is Role.DIRECTOR}
        self._members = members_of(plan)
        self._after = following_of(plan)
        self._drain_timeout = plan.drain_timeout
        ending = Ending()
        async with self._renewing():
            failed = await self._prepare_all(plan)
            if failed is None:
                failed = await self._decide(ending)
        if failed is not None:
            ending.failed = failed
            ending.left = await self._undo_all()
        elif not ending.unknown:
            await self._finish(ending)
        return ending

    @property
    def _authority(self) -> Member:
        return next(iter(self._members.values()))

    @property
    def _directors(self) -> list[Member]:
        return [each for each in self._members.values() if each.agent.role is Role.DIRECTOR]

    @property
    def _real_servers(self) -> list[Member]:
        return [each for each in self._members.values() if each.agent.role is Role.REAL_SERVER]

    def _client(self, member: Member) -> TransactionClient:
        return TransactionClient(self._clients[member.agent])

    async def _prepare_all(self, plan: Plan) -> Failed | None:
        """Prepare real servers, each with its application awaited, then directors; then the real servers are READY.

        What directors check has to pass before they are prepared.
        """
        steps = [step for step in plan.steps if step.agent.role is Role.REAL_SERVER]
        for step in steps:
            member = self._members.get(step.agent)
            if step.operations and member is not None:
                failed = await self._attempt(step, lambda member=member: self._prepare(member), member)  # type: ignore[misc]
            else:
                failed = await self._attempt(step, lambda step=step: self._wait(step))  # type: ignore[misc]
            if failed is not None:
                return failed
        failed = await self._pass_gates(plan)
        if failed is not None:
            return failed
        for member in self._directors:
            step = member.steps[0] if member.steps else Step(agent=member.agent, title=f"decide to {self._purpose}")
            failed = await self._attempt(step, lambda member=member: self._prepare(member), member)  # type: ignore[misc]
            if failed is not None:
                return failed
        for member in self._real_servers:
            failed = await self._attempt(member.steps[0], lambda member=member: self._make_ready(member))  # type: ignore[misc]
            if failed is not None:
                return failed
        return None

    async def _pass_gates(self, plan: Plan) -> Failed | None:
        """Have directors check what they are to send clients to: all at once, since each may take its time."""
        gates = [step for step in plan.steps if step.check is not None]
        ended = await asyncio.gather(*(self._attempt(step, lambda step=step: self._wait(step)) for step in gates))  # type: ignore[misc]
        return next((each for each in ended if each is not None), None)

    async def _attempt(
        self, step: Step, work: Callable[[], Awaitable[None]], member: Member | None = None
    ) -> Failed | None:
        """Do something that must not fail before the decision; report it if it does, under the step at fault."""
        try:
            self._interrupt.check()
            await work()
        except (LvsError, NoAnswerError, Interrupted) as error:
            if member is not None and isinstance(error, LvsError):
                step = member.step_of(error, step)
            self._fail(step, error)
            return Failed(step=step, error=error)
        return None

    async def _make_ready(self, member: Member) -> None:
        await self._client(member).ready(self._name, member.fence)

    def _fail(self, step: Step, error: Failure) -> None:
        unknown = isinstance(error, NoAnswerError) and error.sent and bool(step.operations)
        if not unknown:  # of what is unknown the undo will tell
            why = (text_of(error),)
            self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.FAILED, details=why))

    async def _wait(self, step: Step) -> None:
        self._report(await wait_as(step, self._clients, self._interrupt))

    async def _prepare(self, member: Member) -> None:
        """Have an agent prepare, and report what is made by it; while another transaction has a lock, wait for that."""
        deadline = time.monotonic() + self._lock_timeout
        finished = set[str]()
        while True:
            try:
                answer = await self._ask_to_prepare(member)
                break
            except ConflictError as error:
                holder = error.metadata.get("transaction", "")
                if error.reason is not Reason.LOCKED:
                    raise
                if holder not in finished and await self._resolve(member, holder):
                    finished.add(holder)
                    continue
                if time.monotonic() >= deadline:
                    raise
                await self._interrupt.sleep(random.uniform(0.2, 1.0))  # noqa: S311  # others must not try in step
        member.fence = answer.fence
        for step in member.steps:
            if all(is_inert(operation) for operation in step.operations):
                self._report_made(member, step, answer.changes)

    async def _resolve(self, member: Member, name: str) -> bool:
        """Finish a transaction that stands in the way, if its coordinator is gone; return whether it is finished."""
        with contextlib.suppress(LvsError, NoAnswerError):
            found = await self._client(member).get(name)
            resolved = await resolve_one(self._clients, found, self._directors_by_id, self._report)
            return resolved.resolution is Resolution.FINISHED
        return False

    async def _ask_to_prepare(self, member: Member) -> Transaction:
        try:
            answer = await self._client(member).prepare(
                self._name,
                self._purpose,
                self._authority.agent_id,
                self._participants(),
                member.operations,
                self._lease,
                member.etag,
                self._after if member is self._authority else (),
                self._drain_timeout,
            )
        except (LvsError, NoAnswerError) as error:
            member.may_have_prepared = may_have_changed(error)
            raise
        member.may_have_prepared = True
        return answer

    def _participants(self) -> list[Participant]:
        return [participant(each.agent, each.agent_id) for each in self._members.values()]

    def _report_made(self, member: Member, step: Step, changes: Sequence[Change]) -> None:
        self._report(report_made(step, member.changes_of(step, changes)))

    async def _decide(self, ending: Ending) -> Failed | None:
        """Have the authority decide. An answer that is lost is asked for: it is never aborted blindly."""
        authority = self._authority
        steps = authority.reserving
        step = steps[-1] if steps else Step(agent=authority.agent, title=f"decide to {self._purpose}")
        client, sent = self._client(authority), False
        for _ in range(TRIES):
            try:
                if not sent:
                    self._interrupt.check()
                answer = await client.commit(self._name, authority.fence)
            except NoAnswerError as error:
                sent = sent or error.sent
                if not sent:
                    return self._failed_before(step, error)
            except Interrupted as error:
                return self._failed_before(step, error)
            except LvsError as error:
                found = await (self._ended_by_force() if sent else self._where_it_stands())
                if found is None:
                    break
                if unpack_state(found) is not TransactionState.COMMITTED:
                    return self._failed_before(step, error)
                self._tell_committed(authority, found, ending)
                return None
            else:
                self._tell_committed(authority, answer, ending)
                return None
        ending.unknown = True
        self._report(
            StepReport(
                agent=step.agent,
                title=step.title,
                result=StepResult.UNKNOWN,
                details=("it does not say what it decided",),
            )
        )
        return None

    async def _ended_by_force(self) -> Transaction | None:
        """Have the authority abort, unless it has decided; None if it does neither. Only then others may be undone.

        An earlier commit that got no answer may still be on its way, and come before an abort.
        """
        found = await self._where_it_stands()
        if found is None or unpack_state(found).is_decided:
            return found
        await self._undo(self._authority)
        found = await self._where_it_stands()
        return found if found is not None and unpack_state(found).is_decided else None

    async def _where_it_stands(self) -> Transaction | None:
        """Return where the authority stands after it answered the commit with an error; None if it does not say.

        An error alone does not mean that nothing is decided: its disk may have filled up right after the record.
        """
        client = self._client(self._authority)
        try:
            return await again(lambda: client.get(self._name))
        except NotFoundError:
            return Transaction(state=TRANSACTION_STATE_ABORTED)
        except (LvsError, NoAnswerError):
            return None

    def _failed_before(self, step: Step, error: Failure) -> Failed:
        self._fail(step, error)
        return Failed(step=step, error=error)

    def _tell_committed(self, member: Member, answer: Transaction, ending: Ending) -> None:
        """Report the reserved steps of an agent that has committed: done, or decided and not yet possible."""
        for step in member.reserving:
            if answer.settled:
                self._report_made(member, step, answer.changes)
                edited = edited_meanwhile(step, member.changes_of(step, answer.changes))
                ending.edited.extend(f"{step.agent}: {line}" for line in edited)
            else:
                ending.left.append(step)
                self._report(
                    StepReport(
                        agent=step.agent, title=step.title, result=StepResult.FAILED, details=tuple(answer.problems)
                    )
                )

    async def _finish(self, ending: Ending) -> None:
        """Carry the decision to the other directors, then to the real servers; only forward."""
        others = [each for each in self._directors if each is not self._authority]
        for member in (*others, *self._real_servers):
            try:
                answer = await again(lambda member=member: self._client(member).commit(self._name, member.fence))  # type: ignore[misc]
            except (LvsError, NoAnswerError) as error:
                step = (member.reserving or member.steps)[-1]
                ending.left.append(step)
                why = (text_of(error),)
                self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.UNKNOWN, details=why))
            else:
                self._tell_committed(member, answer, ending)

    async def _undo_all(self) -> list[Step]:
        """Have everybody abort who may have prepared, the last first; return the steps that may have left something."""
        left: list[Step] = []
        for member in reversed([*self._real_servers, *self._directors]):
            if member.may_have_prepared:
                left.extend(await self._undo(member))
        if left and not self._authority.may_have_prepared:  # so that whoever finishes finds out there whom to tell
            await self._undo(self._authority)
        return left

    async def _undo(self, member: Member) -> list[Step]:
        made = [step for step in member.steps if all(is_inert(operation) for operation in step.operations)]
        title = (
            "; ".join(step.undo or step.title for step in reversed(made or member.steps)) or "forget the transaction"
        )
        try:
            answer = await again(
                lambda: self._client(member).abort(
                    self._name, member.fence, self._authority.agent_id, self._participants()
                )
            )
        except (LvsError, NoAnswerError) as error:
            self._tell_undone(member, title, StepResult.UNKNOWN, [text_of(error)])
            return list(made or member.steps) or [Step(agent=member.agent, title=title)]
        problems = list(answer.transaction.problems)
        if not answer.transaction.settled:
            self._tell_undone(member, title, StepResult.UNKNOWN, problems)
            return list(made)
        if problems:
            self._tell_undone(member, title, StepResult.KEPT, problems)
        elif answer.details:
            self._tell_undone(member, title, StepResult.UNDONE, answer.details)
        return []

    def _tell_undone(self, member: Member, title: str, result: StepResult, details: Sequence[str]) -> None:
        self._report(StepReport(agent=member.agent, title=f"undo: {title}", result=result, details=tuple(details)))

    @asynccontextmanager
    async def _renewing(self) -> AsyncIterator[None]:
        """Renew the leases of all that have prepared, until the decision."""
        renewing = asyncio.ensure_future(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / RENEWALS)
            for member in self._members.values():
                if member.fence:
                    with contextlib.suppress(LvsError, NoAnswerError):  # whoever needs it finds out
                        await self._client(member).renew(self._name, member.fence, self._lease)
