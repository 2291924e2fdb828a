"""What follows a `remove-backend`, in the model: its first command is the removal, whose decision is the drain.

From then on anybody may do the rest, lvs itself or any client, several at once and over and over again. Each is a
finisher here; it stops where it likes, or is only stopped. Its messages, too, stay in the network for good.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.protocol import agent as agents
from tests.protocol.agent import ABORTED, ABSENT, COMMITTED, DRAINING, TAKING, THERE, Kernel, Operation, Record, Rules
from tests.protocol.site import AUTHORITY, DONE, OVER, PLAN, Command, Coordinator, Site, State, Steps

REMOVAL = 0
BACKEND, SERVER = "R1", "X"
DESTINATION, HOLD = f"{BACKEND} in {SERVER}", f"VIP for {SERVER}"

IDLE, FINISHED = "idle", "finished"


def added(directors: Sequence[str]) -> dict[str, Kernel]:
    """Return what is there when the real server has been added."""
    there = frozenset({(SERVER, THERE), (DESTINATION, TAKING)})
    return {BACKEND: frozenset({(HOLD, THERE)}), **dict.fromkeys(directors, there)}


def left_over(directors: Sequence[str]) -> dict[str, Kernel]:
    """Return what is there when only the real server has not heard of the removal."""
    return {BACKEND: frozenset({(HOLD, THERE)}), **dict.fromkeys(directors, frozenset({(SERVER, THERE)}))}


def removal(directors: Sequence[str]) -> Command:
    """Return what `lvs remove-backend` has decided: the drain."""
    drain = Operation(DESTINATION, DRAINING, (TAKING, DRAINING), within=SERVER)
    return Command(dict.fromkeys(directors, (drain,)))


def removal_of_the_rest(directors: Sequence[str]) -> Command:
    """Return the decision where no destination is there to be drained; all the same it follows that it is gone."""
    return Command(dict.fromkeys(directors, ()))


def undrain(directors: Sequence[str]) -> Command:
    """Return what `lvs undrain` asks for: the real server is asked again, too (P1)."""
    hold = Operation(HOLD, THERE, (ABSENT, THERE), inert=True)
    end = Operation(DESTINATION, TAKING, (TAKING, DRAINING), within=SERVER)
    return Command({BACKEND: (hold,), **dict.fromkeys(directors, (end,))})


class Removal:
    """A removal at work, beside whatever other commands there are.

    decided is for one whose lvs died when it had drained everywhere, rest for one that finds no destination.
    """

    def __init__(
        self,
        directors: Sequence[str],
        others: Sequence[Command],
        rules: Rules,
        *,
        finishers: int = 1,
        decided: bool = False,
        rest: bool = False,
        patient: bool = False,
    ) -> None:
        self.rules = rules
        self._rest = rest
        commands = [removal_of_the_rest(directors) if rest else removal(directors), *others]
        there = left_over(directors) if rest else added(directors)
        self.site = Site([BACKEND, *directors], commands, rules=rules, kernels=there, patient=patient)
        self.initial = self.site.initial._replace(finishers=(IDLE,) * finishers)
        if decided:
            self.initial = self._decided(self.initial, directors)
        asked = directors if rules.asks_every_director else directors[:1]
        self._order = [
            *(f"gone {name}" for name in asked),
            f"release {BACKEND}",
            *(f"forget {name}" for name in directors),
            f"finish {AUTHORITY}",
        ]
        gone = (ABSENT, DRAINING) if rules.only_if_draining else (ABSENT, DRAINING, TAKING)
        forgotten = (ABSENT, DRAINING) if rules.forgets_only else (ABSENT, DRAINING, TAKING)
        self._changes = {
            "gone": Operation(DESTINATION, ABSENT, gone, within=SERVER),
            "release": Operation(HOLD, ABSENT, (ABSENT, THERE)),
            "forget": Operation(DESTINATION, ABSENT, forgotten, within=SERVER),
        }

    def _decided(self, state: State, directors: Sequence[str]) -> State:
        for name in directors:
            agent = self.site.agent(state, name).with_record(REMOVAL, Record(COMMITTED))
            drained = agents.put(agent.kernel, DESTINATION, DRAINING)
            state = self.site.put(state, name, agent._replace(kernel=drained))
        return state.with_coordinator(REMOVAL, Coordinator(OVER))

    def step(self, state: State) -> Steps:
        for what, after in self.site.step(state):
            planned = state.coordinators[REMOVAL].step == PLAN != after.coordinators[REMOVAL].step
            yield what, after.send(*self._older(state)) if planned else after
        takes = self.site.agent(state, AUTHORITY).has(DESTINATION) == TAKING
        if takes and self._may_begin(state):
            yield f"{AUTHORITY} sees that it takes connections again, and gives up what follows", state.send(FINISHED)
        for number in range(len(state.finishers)):
            yield from self._follow(state, number)
        yield from self._deliver(state)

    def _older(self, state: State) -> list[str]:
        """What the removal remembers of the real server as it was planned: which transactions are older than it.

        One that is open counts as newer: it may not have come to the directors yet.
        """
        return [
            f"{number} is older"
            for number in range(1, len(state.coordinators))
            for record in [self.site.agent(state, BACKEND).records[number]]
            if record is not None and not (record.locking and self.rules.open_counts_as_newer)
        ]

    def _is_wanted(self, state: State) -> bool:
        """Whether a newer transaction wants the real server to have the VIP; then it is not given up."""
        return self.rules.newer_keep_the_vip and any(
            self.site.agent(state, BACKEND).state(number) not in ("", ABORTED)
            for number in range(1, len(state.coordinators))
            if f"{number} is older" not in state.sent
        )

    def _is_left(self, state: State) -> bool:
        """Whether the authority still has something noted that is to follow."""
        return self.site.agent(state, AUTHORITY).state(REMOVAL) == COMMITTED and FINISHED not in state.sent

    def _may_begin(self, state: State) -> bool:
        """Nobody begins before every director has carried out the drain: `lvs txn resolve` sees to that first."""
        found = [self.site.agent(state, name).records[REMOVAL] for name in state.coordinators[REMOVAL].hosts]
        return self._is_left(state) and all(record == Record(COMMITTED) for record in found)

    def _follow(self, state: State, number: int) -> Steps:
        step, who = state.finishers[number], f"finisher {number}"
        if step == IDLE:
            if self._may_begin(state):
                yield f"{who} begins, and sends '{self._order[0]}'", self._ask(state, number, self._order[0])
            return
        verb, name = step.split()
        if self._is_answered(state, verb, name):
            following = self._order.index(step) + 1
            if following == len(self._order):
                yield f"{who} is done", self._to(state.send(FINISHED), number, IDLE)
            else:
                after = self._order[following]
                yield f"{who}: '{step}' is answered; sends '{after}'", self._ask(state, number, after)
        elif self.site.agent(state, name).has(DESTINATION) == TAKING:
            yield f"{who}: it takes connections again, cancelled", self._to(state.send(FINISHED), number, IDLE)
        yield f"{who} stops at '{step}'", self._to(state, number, IDLE)

    def _ask(self, state: State, number: int, step: str) -> State:
        return self._to(state.send(step), number, step)

    @staticmethod
    def _to(state: State, number: int, step: str) -> State:
        return state._replace(finishers=(*state.finishers[:number], step, *state.finishers[number + 1 :]))

    def _is_answered(self, state: State, verb: str, name: str) -> bool:
        """Whether the agent would answer by now that it is so."""
        if verb == "finish" or (verb == "release" and self._is_wanted(state)):
            return True
        agent = self.site.agent(state, name)
        return agents.change(agent, self._changes[verb], self.rules) is agent

    def _deliver(self, state: State) -> Steps:
        """Let what anybody has ever sent arrive."""
        for step in self._order:
            verb, name = step.split()
            if step not in state.sent or verb == "finish" or (verb == "release" and self._is_wanted(state)):
                continue
            agent = self.site.agent(state, name)
            after = agents.change(agent, self._changes[verb], self.rules)
            if after is not None and after is not agent:
                yield f"'{step}' arrives", self.site.put(state, name, after)

    # What must hold, beside what holds for every site.

    def what_is_done_stays(self, state: State) -> bool:
        """Where another command has ended with 0, its destination takes connections and its real server has the VIP."""
        others = [n for n, lvs in enumerate(state.coordinators) if n != REMOVAL and lvs.step == DONE]
        return all(self.site.is_as_wanted(state, name, number) for number in others for name in self.site.names)

    def is_quiet(self, state: State) -> bool:
        """Nothing is locked, or left to do; and the backend is there everywhere or nowhere."""
        if not self.site.is_quiet(state) or self._is_left(state):
            return False
        there = {bool(self.site.agent(state, name).has(DESTINATION)) for name in self.site.directors}
        if not self._rest:  # else a hold was left over when it began
            there.add(bool(self.site.agent(state, BACKEND).has(HOLD)))
        return len(there) == 1
