"""The steps that put the VIPs of a virtual server onto a real server, as several workflows do. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent_common.operation import Operation
from cli.facts import RealServerFacts
from cli.plan import Step


def vip_steps(facts: RealServerFacts, operations: Sequence[Operation]) -> Iterator[Step]:
    """Return a step for each VIP that makes sure of it there, or where nothing is to be made keeps it until the end.

    What several of them would do, since each was asked about alone, is said once.
    """
    said: set[str] = set()
    for operation, change in zip(operations, facts.changes, strict=True):
        vip = operation.create_vip.vip.address
        yield Step(
            agent=facts.agent,
            title=f"{'prepare' if change.made else 'keep'} VIP {vip} on lo",
            undo=f"give VIP {vip} back, with what this made",
            operations=(operation,),
            planned=(change,),
            details=tuple(action for action in change.actions if action not in said),
        )
        said.update(change.actions)
