"""Visits every state that a protocol can reach, breadth first, and tells how a forbidden one is reached.

A state is hashable; `step` names what can happen next, and to which state it leads. Every message ever sent stays in a
state's set of messages, so that it is delivered late, more than once or never without a word about the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

Steps = Iterable[tuple[str, S]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration(Generic[S]):
    """How many states there are, which of them are quiet, and the shortest way to each violation, a line a step."""

    states: int
    quiet: frozenset[S]
    violations: Mapping[str, list[str]]

    def __str__(self) -> str:
        lines = [f"{self.states} states, {len(self.quiet)} of them quiet"]
        for name, way in self.violations.items():
            lines += [f"violated: {name}", *(f"  {number}. {what}" for number, what in enumerate(way, 1))]
        return "\n".join(lines)


def explore(
    initial: S,
    step: Callable[[S], Steps[S]],
    *,
    always: Mapping[str, Callable[[S], bool]],
    quiet: Callable[[S], bool],
    helps: Callable[[str], bool],
    until: str = "",
) -> Exploration[S]:
    """Visit every state. `always` must hold in each of them; and from each, steps that help must lead to a quiet one.

    Where that is not so the violation is called "stuck". until is the violation that ends it, to see its way only.
    """
    came: dict[S, tuple[str, S] | None] = {initial: None}
    leads: dict[S, list[S]] = {}
    queue = deque([initial])
    violations: dict[str, list[str]] = {}
    while queue:
        state = queue.popleft()
        for name, holds in always.items():
            if name not in violations and not holds(state):
                violations[name] = _way(came, state)
                if name == until:
                    return Exploration(states=len(came), quiet=frozenset(), violations=violations)
        for what, following in step(state):
            if following not in came:
                came[following] = (what, state)
                queue.append(following)
            if helps(what):
                leads.setdefault(following, []).append(state)
    ends = frozenset(state for state in came if quiet(state))
    good = _all_that_lead_to(ends, leads)
    stuck = next((state for state in came if state not in good), None)  # in the order of discovery: the nearest
    if stuck is not None:
        violations["stuck"] = _way(came, stuck)
    return Exploration(states=len(came), quiet=ends, violations=violations)


def _all_that_lead_to(ends: Iterable[S], leads: Mapping[S, list[S]]) -> set[S]:
    good = set(ends)
    queue = deque(good)
    while queue:
        for before in leads.get(queue.popleft(), ()):
            if before not in good:
                good.add(before)
                queue.append(before)
    return good


def _way(came: Mapping[S, tuple[str, S] | None], state: S) -> list[str]:
    steps: list[str] = []
    while (before := came[state]) is not None:
        what, state = before
        steps.append(what)
    return steps[::-1]
