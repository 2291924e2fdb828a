"""What follows a `remove-backend`, in the model: its first command is the removal, whose decision is the drain.

From then on anybody may do the rest, lvs itself or any client, several at once and over and over again. Each is a
finisher here; it stops and goes on as it likes. Its messages, too, stay in the network for good.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.protocol import agent as agents
from tests.protocol.agent import (
    ABSENT,
    COMMITTED,
    DRAINING,
    PREPARED,
    TAKING,
    THERE,
    Agent,
    Kernel,
    Operation,
    Rules,
)
from tests.protocol.site import AUTHORITY, DONE, OVER, Coordinator, Operations, Site, State, Steps

REMOVAL = 0
BACKEND, SERVER = "R1", "X"
DESTINATION, HOLD = f"{BACKEND} in {SERVER}", f"VIP for {SERVER}"

IDLE, GO_ON = "idle", "go on"

RELEASE = Operation(HOLD, ABSENT, (ABSENT, THERE))


def added(directors: Sequence[str]) -> dict[str, Kernel]:
    """Return what is there when the real server has been added."""
    there = frozenset({(SERVER, THERE), (DESTINATION, TAKING)})
    return {BACKEND: frozenset({(HOLD, THERE)}), **dict.fromkeys(directors, there)}


def removal(directors: Sequence[str], *, drain: bool = True) -> Operations:
    """Return what `lvs remove-backend` has decided: the drain, or with --no-drain that the destination goes."""
    wanted, allowed = (DRAINING, (TAKING, DRAINING)) if drain else (ABSENT, (ABSENT, TAKING, DRAINING))
    return {name: (Operation(DESTINATION, wanted, allowed, within=SERVER),) for name in directors}


def undrain(directors: Sequence[str]) -> Operations:
    """Return what `lvs undrain` asks for: the real server is asked again, too (P1)."""
    hold = Operation(HOLD, THERE, (ABSENT, THERE), inert=True)
    end = Operation(DESTINATION, TAKING, (TAKING, DRAINING), within=SERVER)
    return {BACKEND: (hold,), **dict.fromkeys(directors, (end,))}


class Removal:
    """A removal at work, beside whatever other commands there are.

    decided is for one whose lvs died when it had drained everywhere.
    """

    def __init__(
        self,
        directors: Sequence[str],
        others: Sequence[Operations],
        rules: Rules,
        *,
        finishers: int = 1,
        decided: bool = False,
    ) -> None:
        self.rules = rules
        commands = [removal(directors), *others]
        self.site = Site([BACKEND, *directors], commands, rules=rules, kernels=added(directors), more=finishers)
        self._first = len(commands)
        self.initial = self.site.initial._replace(finishers=(IDLE,) * finishers)
        if decided:
            self.initial = self._decided(self.initial, directors)
        asked = directors if rules.asks_every_director else directors[:1]
        locks = [f"lock {BACKEND}"] if rules.locks_before_asking else []
        self._order = [
            *locks,
            *(f"gone {name}" for name in asked),
            f"release {BACKEND}",
            *(f"forget {name}" for name in directors),
            f"finish {AUTHORITY}",
        ]
        gone = (ABSENT, DRAINING) if rules.only_if_draining else (ABSENT, DRAINING, TAKING)
        forgotten = (ABSENT, DRAINING) if rules.forgets_only else (ABSENT, DRAINING, TAKING)
        self._changes = {
            "gone": Operation(DESTINATION, ABSENT, gone, within=SERVER),
            "forget": Operation(DESTINATION, ABSENT, forgotten, within=SERVER),
            "release": RELEASE,
        }

    def step(self, state: State) -> Steps:
        yield from self.site.step(state)
        takes = self.site.agent(state, AUTHORITY).has(DESTINATION) == TAKING
        if takes and self._is_left(state) and self._is_decided_everywhere(state):
            yield f"{AUTHORITY} sees that it takes connections again, and gives up what follows", state.send("finished")
        for number in range(len(state.finishers)):
            yield from self._follow(state, number)
            yield from self._deliver(state, number)

    def _decided(self, state: State, directors: Sequence[str]) -> State:
        for name in directors:
            agent = self.site.agent(state, name).with_record(REMOVAL, agents.Record(COMMITTED))
            drained = agents.put(agent.kernel, DESTINATION, DRAINING)
            state = self.site.put(state, name, agent._replace(kernel=drained))
        return state.with_coordinator(REMOVAL, Coordinator(OVER))

    def _is_left(self, state: State) -> bool:
        """Whether the authority still has something noted that is to follow."""
        return self.site.agent(state, AUTHORITY).state(REMOVAL) == COMMITTED and "finished" not in state.sent

    def _is_decided_everywhere(self, state: State) -> bool:
        """Nobody begins before every director has carried out the drain: `lvs txn resolve` sees to that first."""
        found = [record for name, record in self.site.records(state, REMOVAL) if name != BACKEND]
        return all(record is not None and not record.locking for record in found)

    def _message(self, number: int, step: str) -> str:
        """Only the lock, and the release that needs it, say whose they are; all else is the same whoever asks."""
        own = step.startswith("lock") or (step.startswith("release") and self.rules.locks_before_asking)
        return f"{step} {number}" if own else step

    def _follow(self, state: State, number: int) -> Steps:
        step, who = state.finishers[number], f"finisher {number}"
        if step in (IDLE, GO_ON):
            if self._is_left(state) and self._is_decided_everywhere(state):
                yield f"{who} begins, with '{self._begin(step)}'", self._begun(state, number, step)
            return
        if self._is_answered(state, number, step):
            following = self._order.index(step) + 1
            if following == len(self._order):
                yield f"{who} is done", self._to(state.send("finished"), number, IDLE)
            else:
                skip = step.startswith("lock") and f"asked {number}" in state.sent
                after = f"release {BACKEND}" if skip else self._order[following]
                yield f"{who}: '{step}' answered, sends '{after}'", self._ask(state, number, after)
        verb, name = step.split()
        takes = self.site.agent(state, name).has(DESTINATION) == TAKING
        if verb in ("gone", "forget") and takes and TAKING not in self._changes[verb].allowed:
            yield f"{who}: it takes connections again, cancelled", self._to(state.send("finished"), number, IDLE)
        remembers = verb == "release" and not self.rules.asks_anew
        yield f"{who} stops at '{step}'", self._to(state, number, GO_ON if remembers else IDLE)

    def _begin(self, step: str) -> str:
        return f"release {BACKEND}" if step == GO_ON and not self.rules.locks_before_asking else self._order[0]

    def _begun(self, state: State, number: int, step: str) -> State:
        """Each time it is a transaction of another name; what comes late of the earlier ones is refused."""
        which, agent = self._first + number, self.site.agent(state, BACKEND)
        record = agent.records[which]
        if record is not None and record.decided and record.settled:
            late = {f"lock {BACKEND} {number}", f"release {BACKEND} {number}"}
            state = self.site.put(state, BACKEND, agent.with_record(which, None))
            state = state._replace(sent=state.sent - late)
        if step == GO_ON:
            state = state.send(f"asked {number}")
        return self._ask(state, number, self._begin(step))

    def _ask(self, state: State, number: int, step: str) -> State:
        return self._to(state.send(self._message(number, step)), number, step)

    @staticmethod
    def _to(state: State, number: int, step: str) -> State:
        return state._replace(finishers=(*state.finishers[:number], step, *state.finishers[number + 1 :]))

    def _is_answered(self, state: State, number: int, step: str) -> bool:
        """Whether the agent would answer by now that it is so."""
        verb, name = step.split()
        agent = self.site.agent(state, name)
        record = agent.records[self._first + number]
        match verb:
            case "lock":
                return record is not None and record.state == PREPARED
            case "release" if self.rules.locks_before_asking:
                return record == agents.Record(COMMITTED)
            case "finish":
                return True
            case _:
                return agents.change(agent, self._changes[verb], self.rules) is agent

    def _deliver(self, state: State, number: int) -> Steps:
        """Let what somebody has sent arrive."""
        for step in self._order:
            message = self._message(number, step)
            verb, name = step.split()
            if message not in state.sent or verb == "finish" or (number and message == step):
                continue
            agent = self.site.agent(state, name)
            after = self._arrived(agent, self._first + number, verb)
            if after is not None and after is not agent:
                yield f"'{message}' arrives", self.site.put(state, name, after)

    def _arrived(self, agent: Agent, which: int, verb: str) -> Agent | None:
        if verb == "lock":
            planned = agents.plan(agent.kernel, [RELEASE])
            return None if planned is None else agents.prepare(agent, which, planned, self.rules)
        if verb == "release" and self.rules.locks_before_asking:
            return agents.commit(agent, which)
        return agents.change(agent, self._changes[verb], self.rules)

    # What must hold, beside what holds for every site.

    def what_is_done_stays(self, state: State) -> bool:
        """Where another command has ended with 0, its destination takes connections and its real server has the VIP."""
        others = [n for n, lvs in enumerate(state.coordinators) if n != REMOVAL and lvs.step == DONE]
        return all(self.site.is_as_wanted(state, name, number) for number in others for name in self.site.names)

    def is_quiet(self, state: State) -> bool:
        """Nothing is locked, or left to do; and the backend is there everywhere or nowhere."""
        if not self.site.is_quiet(state) or self._is_left(state):
            return False
        hosts = zip(self.site.names, state.agents, strict=True)
        there = {bool(agent.has(HOLD if name == BACKEND else DESTINATION)) for name, agent in hosts}
        return len(there) == 1
