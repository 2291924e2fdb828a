"""Tables of health checks: what the operator wants, what a check sees, what the kernel has. Pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from lvsagent.v1 import destination_pb2, health_pb2

from agent_common import wire
from agent_common.wire_health import unpack_policy
from cli.policy_text import policy_lines
from cli.site import AgentName
from cli.text_table import table

NOT_CHECKED = "not checked"

_HEAD = ("DESTINATION", "WEIGHT", "KERNEL", "STATE", "SINCE", "LAST ANSWER")

_EVENTS = {
    health_pb2.HEALTH_EVENT_KIND_UP: "up",
    health_pb2.HEALTH_EVENT_KIND_DOWN: "down",
    health_pb2.HEALTH_EVENT_KIND_OUT: "out",
    health_pb2.HEALTH_EVENT_KIND_IN: "in",
    health_pb2.HEALTH_EVENT_KIND_QUORUM_LOST: "quorum lost",
    health_pb2.HEALTH_EVENT_KIND_QUORUM_REGAINED: "quorum regained",
    health_pb2.HEALTH_EVENT_KIND_ALARM: "ALARM",
    health_pb2.HEALTH_EVENT_KIND_ALARM_OVER: "alarm over",
}


def health_lines(statuses: Sequence[health_pb2.HealthStatus], now: datetime.datetime, width: int = 0) -> list[str]:
    """Return what lvs health show prints of a director, for a terminal of so many columns; 0: any number."""
    if not statuses:
        return ["nothing is checked"]
    lines: list[str] = []
    for status in statuses:
        lines += [*([""] if lines else []), *_status_lines(status, now, width)]
    return lines


def _status_lines(status: health_pb2.HealthStatus, now: datetime.datetime, width: int) -> Iterator[str]:
    """What somebody should look at comes first."""
    alarm, quorum = status.health.alarm, _quorum(status.health, now)
    yield f"{wire.unpack_key(status.virtual_server)}  {f'ALARM: {alarm}' if alarm else quorum}"
    below = [quorum] if alarm else []
    below += policy_lines(unpack_policy(status.policy))
    yield from (f"  {line}" for line in (*below, *checked_table(status.destinations, now, width - 2)))


def _quorum(health: health_pb2.VirtualServerHealth, now: datetime.datetime) -> str:
    quorum = "has its quorum" if health.has_quorum else "HAS LOST ITS QUORUM"
    return f"{quorum} since {age(health.since, now)}, weight {health.weight_up} is up"


def alarming(statuses: Iterable[health_pb2.HealthStatus]) -> Iterator[health_pb2.HealthStatus]:
    """Return those at which somebody should look."""
    return (each for each in statuses if each.health.alarm)


def checked_table(
    statuses: Sequence[destination_pb2.DestinationStatus], now: datetime.datetime, width: int = -1
) -> list[str]:
    """Return destinations as a table; a note that does not fit into so many columns stands below its row."""
    if not statuses:
        return ["no destinations"]
    rows = [
        (
            str(wire.unpack_destination_key(each.destination.key)),
            wanted_weight(each),
            kernel_weight(each),
            state(each),
            age(each.health.since, now) if is_checked(each) else "-",
            _answer(each.health),
        )
        for each in statuses
    ]
    notes = [_note(each.health) for each in statuses]
    whole = table((*_HEAD, "NOTE" if any(notes) else ""), zip(*zip(*rows, strict=True), notes, strict=True))
    lines = whole.splitlines()
    if width < 0 or max(map(len, lines)) <= width:
        return lines
    head, *rest = table(_HEAD, rows).splitlines()
    indent = " " * head.index(_HEAD[-1])
    below = zip(rest, (f"{indent}{note}" if note else "" for note in notes), strict=True)
    return [head, *(line for pair in below for line in pair if line)]


def is_checked(status: destination_pb2.DestinationStatus) -> bool:
    """Whether a destination is checked."""
    return status.HasField("health") and status.health.verdict != destination_pb2.VERDICT_UNSPECIFIED


def wanted_weight(status: destination_pb2.DestinationStatus) -> str:
    """Return the weight that the operator wants, and whether it waits for the end of a drain."""
    weight = status.destination.weight
    return f"{weight} draining" if status.destination.draining else str(weight)


def kernel_weight(status: destination_pb2.DestinationStatus) -> str:
    """Return the kernel's weight; - where its checks have a destination out of the kernel."""
    return "-" if status.health.removed else str(status.current_weight)


def state(status: destination_pb2.DestinationStatus) -> str:
    """Return what the checks say; with a question mark where that is assumed."""
    if not is_checked(status):
        return NOT_CHECKED
    word = "up" if status.health.verdict == destination_pb2.VERDICT_UP else "down"
    return word if status.health.proven else f"{word}?"


def check_text(status: destination_pb2.DestinationStatus, now: datetime.datetime) -> str:
    """Return all of what a check sees in one cell: verdict, since when, and of what is not simply up why."""
    health = status.health
    if not is_checked(status):
        return ": ".join(filter(None, (NOT_CHECKED, _note(health))))
    text = f"{state(status)} {age(health.since, now)}"
    is_up = health.verdict == destination_pb2.VERDICT_UP
    why = health.detail if not is_up or health.against else ""
    return ": ".join(filter(None, (text, "; ".join(filter(None, (why, _note(health)))))))


def _answer(health: destination_pb2.DestinationHealth) -> str:
    """Return what the last check said, and how long it took."""
    if not health.verdict:
        return "-"
    if not health.HasField("checked"):
        return "none yet"
    took = health.took.ToTimedelta().total_seconds()
    return f"{health.detail or 'passed'} ({_took(took)})"


def _note(health: destination_pb2.DestinationHealth) -> str:
    return ", ".join(_notes(health))


def _notes(health: destination_pb2.DestinationHealth) -> Iterator[str]:
    if health.note:
        yield health.note
    elif health.verdict and 0 < health.percent != 100:
        yield f"{health.percent} % of its weight"
    if health.against:
        did = "failed" if health.verdict == destination_pb2.VERDICT_UP else "passed"
        yield f"{did} {health.against} in a row"


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def age(since: Timestamp, now: datetime.datetime) -> str:
    """Return how long ago something was, in two units: 12s, 3m12s, 2h05m, 4d06h; ? if nobody knows."""
    if not since.seconds:
        return "?"
    seconds = max(0, int(now.timestamp()) - since.seconds)
    for size, unit, smaller, of in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // smaller:02}{of}"
    return f"{seconds}s"


def event_lines(answers: Sequence[tuple[AgentName, Sequence[health_pb2.HealthEvent]]]) -> list[str]:
    """Return the events of all directors as one table, the newest first."""
    found = [(event, agent) for agent, events in answers for event in events]
    found.sort(key=lambda each: each[0].time.ToNanoseconds(), reverse=True)
    if not found:
        return ["nothing has happened, as far as is remembered"]
    rows = [
        (
            f"{event.time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            *([agent.host] if len(answers) > 1 else []),
            _EVENTS.get(event.kind, f"event {event.kind}"),  # a newer agent may have others
            str(wire.unpack_key(event.virtual_server)),
            str(wire.unpack_destination_key(event.destination)) if event.HasField("destination") else "-",
            event.detail,
        )
        for event, agent in found
    ]
    director = ["DIRECTOR"] if len(answers) > 1 else []
    return table(["TIME (UTC)", *director, "EVENT", "VIRTUAL SERVER", "DESTINATION", "DETAIL"], rows).splitlines()
