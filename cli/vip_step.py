"""The step that puts the VIPs of a virtual server onto a real server, as several workflows do. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent_common.operation import Operation
from agent_common.virtual_server import IpAddress
from cli.facts import RealServerFacts
from cli.plan import Step


def vip_step(facts: RealServerFacts, vips: Sequence[IpAddress], operations: Sequence[Operation]) -> Step:
    """Return the step that makes sure of the VIPs there; where nothing is to be made it keeps them until the end."""
    return Step(
        agent=facts.agent,
        title=f"{'prepare' if facts.made else 'keep'} {name_vips(vips)} on lo",
        undo=f"give {name_vips(vips)} back, with what this made",
        operations=tuple(operations),
        planned=facts.changes,
        details=tuple(action for change in facts.changes for action in change.actions),
    )


def name_vips(vips: Iterable[IpAddress]) -> str:
    """Return VIPs by name, as titles and messages have them."""
    names = [str(each) for each in vips]
    return f"VIP{'s' if len(names) > 1 else ''} {', '.join(names)}"
