"""Visits every state that a protocol can reach, breadth first, and tells how a forbidden one is reached.

A state is hashable; `step` names what can happen next, and to which state it leads. Every message ever sent stays in a
state's set of messages, so that it is delivered late, more than once or never without a word about the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")

Steps = Iterable[tuple[str, S]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration(Generic[S]):
    """How many states there are, those in which nothing can happen any more, and the shortest way to each violation."""

    states: int
    finals: frozenset[S]
    violations: Mapping[str, list[str]]


def explore(
    initial: S,
    step: Callable[[S], Steps[S]],
    *,
    always: Mapping[str, Callable[[S], bool]],
    finally_: Mapping[str, Callable[[S], bool]],
) -> Exploration[S]:
    """Visit every state. `always` must hold in each of them, `finally_` where nothing can happen any more."""
    came: dict[S, tuple[str, S] | None] = {initial: None}
    queue = deque([initial])
    finals: set[S] = set()
    violations: dict[str, list[str]] = {}
    while queue:
        state = queue.popleft()
        successors = list(step(state))
        if not successors:
            finals.add(state)
        for name, holds in [*always.items(), *(() if successors else finally_.items())]:
            if name not in violations and not holds(state):
                violations[name] = _way(came, state)
        for what, following in successors:
            if following not in came:
                came[following] = (what, state)
                queue.append(following)
    return Exploration(states=len(came), finals=frozenset(finals), violations=violations)


def _way(came: Mapping[S, tuple[str, S] | None], state: S) -> list[str]:
    steps: list[str] = []
    while (before := came[state]) is not None:
        what, state = before
        steps.append(what)
    return steps[::-1]
