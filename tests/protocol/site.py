"""A site of the model: hosts, commands that change several of them, and clients who finish what others began.

Every message may come late, twice or never: it stays in `State.sent` for good, and whoever waits for its answer may
give up at any time. Every lvs may die at any time, every lease end at any time, every host reboot (as often as
`reboots` says), and any client may finish a transaction at any time: the one that began it may only have been stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.protocol import agent as agents
from tests.protocol.agent import (
    ABORTED,
    ABSENT,
    COMMITTED,
    PREPARED,
    READY,
    TAKING,
    THERE,
    Agent,
    Change,
    Kernel,
    Operation,
    Record,
    Rules,
    is_real_server,
)

AUTHORITY = "A"


class Command(NamedTuple):
    """What each host is asked for: real servers first, then directors, the authority before others.

    validates is for add-backend, which has directors say what they would do, and leaves out what is in place.
    """

    operations: dict[str, tuple[Operation, ...]]
    validates: bool = False


# How a command can end; until then it is at a step, like "prepare A".
DONE, UNDONE, NOTHING, OVER = "done", "undone", "nothing to do", "over"
"""OVER: with something left to do or unknown, or dead."""

PLAN = "plan"


class Coordinator(NamedTuple):
    """The lvs that runs one command: for what answer it waits, and what it has planned for each host.

    asked are the hosts that it has asked to prepare, committing says that it has sent a commit, and left that something
    stays to be done.
    """

    step: str = PLAN
    planned: tuple[tuple[str, tuple[Change, ...]], ...] = ()
    asked: tuple[str, ...] = ()
    committing: bool = False
    left: bool = False

    @property
    def hosts(self) -> list[str]:
        return [name for name, _ in self.planned]


class State(NamedTuple):
    """Everything: one coordinator for each command, the hosts, all messages ever sent, and reboots still to come.

    finishers are those who do what follows a removal (removal.py).
    """

    coordinators: tuple[Coordinator, ...]
    agents: tuple[Agent, ...]
    sent: frozenset[str] = frozenset()
    reboots: int = 0
    finishers: tuple[str, ...] = ()

    def send(self, *messages: str) -> State:
        return State(self.coordinators, self.agents, self.sent.union(messages), self.reboots, self.finishers)

    def with_coordinator(self, number: int, coordinator: Coordinator) -> State:
        before, after = self.coordinators[:number], self.coordinators[number + 1 :]
        return State((*before, coordinator, *after), self.agents, self.sent, self.reboots, self.finishers)


Steps = Iterator[tuple[str, State]]


def addition(
    real_servers: Sequence[str], server: str, directors: Sequence[str], *, hold_on_director: bool = False
) -> Command:
    """Return what `lvs add-backend` asks for; a director has the VIP where it is alone."""
    hold = Operation(f"VIP for {server}", THERE, (ABSENT, THERE), inert=True)
    make = Operation(server, THERE, (ABSENT, THERE), inert=True)
    adds = [Operation(f"{name} in {server}", TAKING, (ABSENT, TAKING), within=server) for name in real_servers]
    on_director = (make, *([hold] if hold_on_director else []), *adds)
    asked = {**dict.fromkeys(real_servers, (hold,)), **dict.fromkeys(directors, on_director)}
    return Command(asked, validates=True)


class Site:
    """Commands that run at once, and the hosts that they change; `kernels` is what is there when they begin.

    Where every lvs is patient, none dies or gives up waiting: less can happen, which is enough to refute some rules.
    """

    def __init__(
        self,
        names: Sequence[str],
        commands: Sequence[Command],
        *,
        rules: Rules,
        kernels: dict[str, Kernel] | None = None,
        reboots: int = 0,
        patient: bool = False,
    ) -> None:
        self.names = tuple(names)
        self.commands = tuple(commands)
        self.rules = rules
        self._patient = patient
        self.directors = [name for name in names if not is_real_server(name)]
        self.index = {name: number for number, name in enumerate(self.names)}
        verbs = ("prepare", "ready", "commit", "abort", "resolve")
        self._to = {
            (name, number): [f"{verb} {number} at {name}" for verb in verbs]
            for name in self.names
            for number in range(len(commands))
        }
        self._messages = [
            (f"{verb} {number} at {name}", verb, number, name)
            for number in range(len(commands))
            for verb in verbs
            for name in self.names
        ]
        records = (None,) * len(commands)
        before = kernels or {}
        self.initial = State(
            (Coordinator(),) * len(commands),
            tuple(Agent(before.get(name, frozenset()), records) for name in self.names),
            reboots=reboots,
        )

    def agent(self, state: State, name: str) -> Agent:
        return state.agents[self.index[name]]

    def put(self, state: State, name: str, agent: Agent) -> State:
        """Return the state with a host; messages of what is decided there can do nothing any more, and are dropped."""
        number = self.index[name]
        dead = [
            message
            for which, record in enumerate(agent.records)
            if record is not None and record.decided and self.rules.tombstones
            for message in self._to[name, which]
            if message in state.sent
        ]
        sent = state.sent.difference(dead) if dead else state.sent
        hosts = (*state.agents[:number], agent, *state.agents[number + 1 :])
        return State(state.coordinators, hosts, sent, state.reboots, state.finishers)

    # What can happen.

    def step(self, state: State) -> Steps:
        for number in range(len(self.commands)):
            yield from self._coordinate(state, number)
            yield from self._resolve(state, number)
        for message, verb, number, name in self._messages:
            if message in state.sent:
                after = self._deliver(state, verb, number, name)
                if after is not state:
                    yield f"{message} arrives", after
        for name in self.names:
            for number in range(len(self.commands)):
                yield from self._by_itself(state, name, number)

    def _deliver(self, state: State, verb: str, number: int, name: str) -> State:
        agent, rules = self.agent(state, name), self.rules
        match verb:
            case "prepare":
                planned = dict(state.coordinators[number].planned)[name]
                after = agents.prepare(agent, number, planned, rules)
            case "ready":
                after = agents.ready(agent, number)
            case "commit":
                after = agents.commit(agent, number)
            case "abort":
                after = agents.abort(agent, number, rules)
            case _:  # the resolver's question: whoever does not know it is asked to decide, and decides to abort
                after = agents.abort(agent, number, rules) if agent.records[number] is None else agent
        return state if after is agent else self.put(state, name, after)

    def _by_itself(self, state: State, name: str, number: int) -> Steps:
        """What an agent does without being asked."""
        agent, record = self.agent(state, name), self.agent(state, name).records[number]
        if record is None:
            return
        completed = agents.complete(agent, number)
        if completed is not agent:
            yield f"{name} makes what was reserved for {number}", self.put(state, name, completed)
        if agents.may_abort_alone(agent, number, name, AUTHORITY, self.rules):
            yield (
                f"the lease of {number} ends at {name}",
                self.put(state, name, agents.abort(agent, number, self.rules)),
            )
            if state.reboots:
                yield f"{name} reboots", self._rebooted(state, name, number)

    def _rebooted(self, state: State, name: str, number: int) -> State:
        """What is undecided ends with the boot: the clock of its lease is another one."""
        agent = self.agent(state, name)
        after = agents.abort(agent, number, self.rules)
        if not self.rules.reboot_ends_leases:
            record = agent.records[number]
            after = agent if record is None else agent.with_record(number, record._replace(frozen=True))
        return self.put(state, name, after)._replace(reboots=state.reboots - 1)

    # lvs, as it runs a command.

    def _coordinate(self, state: State, number: int) -> Steps:
        lvs = state.coordinators[number]
        if lvs.step in (DONE, UNDONE, NOTHING, OVER):
            return
        if lvs.step == PLAN:
            yield f"lvs {number} reads every host, and plans", self._plan(state, number)
            return
        verb, name = lvs.step.split()
        for what, after in self._await(state, number, verb, name):
            if not (self._patient and "no answer" in what):
                yield f"lvs {number} asks {name} to {verb}: {what}", after
        if not self._patient:
            yield f"lvs {number} dies", self._end(state, number, OVER)

    def _plan(self, state: State, number: int) -> State:
        """Read every host and plan; what is refused, locked or in place everywhere ends here."""
        command, planned = self.commands[number], dict[str, tuple[Change, ...]]()
        for name, operations in command.operations.items():
            agent = self.agent(state, name)
            changes = agents.plan(agent.kernel, operations)
            locked = command.validates and self.rules.preflight_heeds_locks
            if changes is None or (locked and agents.conflicts(agent, changes, self.rules)):
                return state.with_coordinator(number, Coordinator(NOTHING))
            if not is_real_server(name) and (command.validates or not self.rules.asks_directors_alike):
                changes = tuple(each for each in changes if each.made)
            if changes or name == AUTHORITY:
                planned[name] = changes
        wanted = any(command.operations.values())
        if wanted and not any(change.made for changes in planned.values() for change in changes):
            return state.with_coordinator(number, Coordinator(NOTHING))
        lvs = Coordinator(planned=tuple(planned.items()))
        return self._ask(state, number, lvs, self._order(lvs)[0])

    def _ask(self, state: State, number: int, lvs: Coordinator, step: str) -> State:
        """Send the message of a step, or end."""
        if step in (DONE, UNDONE, OVER):
            return self._end(state, number, step)
        verb, name = step.split()
        record = self.agent(state, name).records[number]
        asked = (*lvs.asked, name) if verb == "prepare" else lvs.asked
        lvs = lvs._replace(step=step, asked=asked, committing=lvs.committing or verb == "commit")
        state = state.with_coordinator(number, lvs)
        if record is not None and record.decided and self.rules.tombstones:
            return state
        return state.send(f"{verb} {number} at {name}")

    def _end(self, state: State, number: int, step: str) -> State:
        """What it has asked for may still come; of all else that it knew nothing is left."""
        return state.with_coordinator(number, Coordinator(step, state.coordinators[number].planned))

    def _order(self, lvs: Coordinator) -> list[str]:
        """Return the steps of a command in which nothing fails."""
        real_servers = [name for name in lvs.hosts if is_real_server(name)]
        directors = [name for name in lvs.hosts if not is_real_server(name)]
        readies = [f"ready {name}" for name in real_servers] if self.rules.ready_before_commit else []
        commits = [f"commit {name}" for name in (*directors, *real_servers)]
        return [*(f"prepare {name}" for name in (*real_servers, *directors)), *readies, *commits]

    def _await(self, state: State, number: int, verb: str, name: str) -> Steps:
        """Hear the answer, or give up waiting for it."""
        record = self.agent(state, name).records[number]
        there = "" if record is None else record.state
        if verb == "abort":
            yield from self._await_abort(state, number, name, record)
        elif verb == "commit" and name != AUTHORITY:
            if record is not None and there == COMMITTED:
                yield "done" if record.settled else "not done yet", self._next(state, number, left=not record.settled)
            yield "no answer", self._next(state, number, left=True)
        elif verb == "commit":
            yield from self._await_decision(state, number, record)
        else:
            good = (PREPARED, READY, COMMITTED) if verb == "prepare" else (READY, COMMITTED)
            if there in good:
                yield "done", self._next(state, number)
            yield "refused, or no answer", self._undo(state, number, left=False)

    def _await_decision(self, state: State, number: int, record: Record | None) -> Steps:
        """A commit without an answer is sent again, in vain perhaps; it is never aborted blindly."""
        if record is not None and record.state == COMMITTED:
            yield "decided" if record.settled else "not done yet", self._next(state, number, left=not record.settled)
        elif record is not None and record.state == ABORTED:
            yield "it was aborted", self._undo(state, number, left=False)
        else:  # its disk is full: it answers with an error, and, asked, that nothing is decided
            yield "an error; asked, it says undecided", self._undo(state, number, left=False)
        if self.rules.asks_after_lost_commit:
            yield "no answer", self._end(state, number, OVER)
        else:
            yield "no answer", self._undo(state, number, left=False)

    def _await_abort(self, state: State, number: int, name: str, record: Record | None) -> Steps:
        lvs = state.coordinators[number]
        careful = name == AUTHORITY and self._is_careful(lvs)
        if record is None:
            if not self.rules.tombstones:
                yield "there is nothing to undo", self._undo(state, number, left=lvs.left)
        elif record.state == ABORTED:
            yield "undone", self._undo(state, number, left=lvs.left)
        elif record.state == COMMITTED and careful:
            yield "a commit came first", self._next(state, number, left=not record.settled, after=f"commit {AUTHORITY}")
        if careful:
            yield "no answer", self._end(state, number, OVER)
        else:
            yield "no answer", self._undo(state, number, left=True)

    def _next(self, state: State, number: int, *, left: bool = False, after: str = "") -> State:
        lvs = state.coordinators[number]
        order = self._order(lvs)
        following = order.index(after or lvs.step) + 1
        lvs = lvs._replace(left=left or lvs.left)
        return self._ask(state, number, lvs, order[following] if following < len(order) else OVER if lvs.left else DONE)

    def _undo(self, state: State, number: int, *, left: bool) -> State:
        """Tell everybody to abort who may have prepared, the last first.

        Where a commit may be on its way the authority comes first, and the others only when it has aborted.
        """
        lvs = state.coordinators[number]._replace(left=left)
        order = list(reversed(lvs.asked))
        if self._is_careful(lvs):
            order = [AUTHORITY, *(name for name in order if name != AUTHORITY)]
        told = [f"abort {name}" for name in order]
        following = told.index(lvs.step) + 1 if lvs.step in told else 0
        return self._ask(state, number, lvs, told[following] if following < len(told) else OVER if left else UNDONE)

    def _is_careful(self, lvs: Coordinator) -> bool:
        """Whether a commit may be on its way, so that the authority alone can say how it ends."""
        return lvs.committing and self.rules.undoes_the_authority_first and self.rules.asks_after_lost_commit

    # Any client, at any time.

    def _resolve(self, state: State, number: int) -> Steps:
        """Who meets an open transaction asks the authority, and carries what it says to the others."""
        if all(record is None or not record.locking for _, record in self.records(state, number)):
            return
        asked = f"resolve {number} at {AUTHORITY}"
        said = self.agent(state, AUTHORITY).state(number)
        if not said and asked not in state.sent:
            yield f"a client asks {AUTHORITY} about {number}", state.send(asked)
        if not self.rules.tombstones and asked in state.sent:
            said = said or ABORTED
        if said in (COMMITTED, ABORTED):
            verb = "commit" if said == COMMITTED else "abort"
            messages = [
                f"{verb} {number} at {name}"
                for name in state.coordinators[number].hosts
                if name != AUTHORITY
                and not (self.rules.tombstones and self.agent(state, name).state(number) in (COMMITTED, ABORTED))
            ]
            if not state.sent.issuperset(messages):
                yield f"a client carries the {verb} of {number} to the others", state.send(*messages)

    def records(self, state: State, number: int) -> list[tuple[str, agents.Record | None]]:
        return [(name, agent.records[number]) for name, agent in zip(self.names, state.agents, strict=True)]

    # What must hold.

    def no_client_is_sent_to_a_real_server_without_vip(self, state: State) -> bool:
        """P1; a destination that drains still gets the packets of its connections."""
        return all(
            value == THERE or any(each.startswith("VIP") for each, _ in self.agent(state, name.split()[0]).kernel)
            for director in self.directors
            for name, value in self.agent(state, director).kernel
        )

    def nothing_undecided_is_in_a_directors_kernel(self, state: State) -> bool:
        """A destination that is only prepared takes no client."""
        return all(
            record is None
            or record.state not in (PREPARED, READY)
            or not any(
                not change.operation.inert and change.made and agent.has(change.operation.resource) != change.before
                for change in record.changes
            )
            for agent in state.agents
            for record in agent.records
        )

    def all_decide_alike(self, state: State) -> bool:
        """P2."""
        return all(
            not {COMMITTED, ABORTED} <= {"" if record is None else record.state for _, record in self.records(state, n)}
            for n in range(len(self.commands))
        )

    def exit_status_0_is_true(self, state: State) -> bool:
        """P7: it is done on every host."""
        return all(
            lvs.step != DONE
            or all(record is None or (record.state, record.settled) == (COMMITTED, True) for _, record in found)
            for number, lvs in enumerate(state.coordinators)
            for found in [self.records(state, number)]
        )

    def no_lock_outlives_its_transaction(self, state: State) -> bool:
        """P7: after exit status 10 nothing of it is anywhere, nor comes back with a message that comes late."""
        return all(
            lvs.step != UNDONE or all(record is None or not record.locking for _, record in self.records(state, number))
            for number, lvs in enumerate(state.coordinators)
        )

    def what_is_done_stays(self, state: State) -> bool:
        """P4: where a transaction is committed, all that it needs is there, whatever else is undone."""
        return all(
            self.is_as_wanted(state, name, number)
            for number in range(len(self.commands))
            for name, record in self.records(state, number)
            if record == Record(COMMITTED)
        )

    def is_as_wanted(self, state: State, name: str, number: int) -> bool:
        """Whether a host is as a command wants it."""
        agent = self.agent(state, name)
        return all(agent.has(each.resource) == each.wanted for each in self.commands[number].operations.get(name, ()))

    def is_quiet(self, state: State) -> bool:
        """Nothing is locked or left to do."""
        return not any(record is not None and record.locking for agent in state.agents for record in agent.records)

    @staticmethod
    def helps(what: str) -> bool:
        """P3: nobody has to be there who began it."""
        return not what.startswith("lvs")
