"""Tables of health checks: what the operator wants, what a check sees, what the kernel has. Pure functions."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from lvsagent.v1 import destination_pb2, health_pb2

from agent_common import wire
from agent_common.wire_health import unpack_policy
from cli.policy_text import policy_lines
from cli.site import AgentName
from cli.text_table import NO_BREAK, fits, fold, table, with_last_column, with_notes

NOT_CHECKED = "not checked"

_HEAD = ("DESTINATION", "WEIGHT", "KERNEL", "STATE", "SINCE", "LAST ANSWER")

_WITH_UNIT = re.compile(r"(?<=\d) (?=m?s\)$)")

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
        return ["nothing is checked; this begins it: lvs health set KEY --check KIND"]
    lines: list[str] = []
    for status in statuses:
        lines += [*([""] if lines else []), *_status_lines(status, now, width)]
    return lines


def _status_lines(status: health_pb2.HealthStatus, now: datetime.datetime, width: int) -> Iterator[str]:
    """What somebody should look at comes first."""
    alarm, quorum = status.health.alarm, _quorum(status, now)
    yield from fold(f"{wire.unpack_key(status.virtual_server)}  {f'ALARM: {alarm}' if alarm else quorum}", width)
    for line in (*([quorum] if alarm else []), *policy_lines(unpack_policy(status.policy))):
        yield from fold(line, width, "  ")
    yield from (f"  {line}" for line in checked_table(status.destinations, now, max(width - 2, 0)))


def _quorum(status: health_pb2.HealthStatus, now: datetime.datetime) -> str:
    if not status.HasField("health"):
        return "not watched yet"
    health = status.health
    quorum = "has its quorum" if health.has_quorum else "HAS LOST ITS QUORUM"
    return f"{quorum} since {age(health.since, now)}, weight {health.weight_up} is up"


def alarming(statuses: Iterable[health_pb2.HealthStatus]) -> Iterator[health_pb2.HealthStatus]:
    """Return those at which somebody should look."""
    return (each for each in statuses if each.health.alarm)


def checked_table(
    statuses: Sequence[destination_pb2.DestinationStatus], now: datetime.datetime, width: int = 0
) -> list[str]:
    """Return destinations as a table; what does not fit into so many columns stands below its row; 0: it fits."""
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
    if fits(lines, width):
        return lines
    texts = [f"{_WITH_UNIT.sub(NO_BREAK, row[-1])}\n{note}" for row, note in zip(rows, notes, strict=True)]
    return with_last_column(_HEAD, [row[:-1] for row in rows], texts, width)


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
    return ": ".join(filter(None, (check_word(status, now), check_why(status))))


def check_word(status: destination_pb2.DestinationStatus, now: datetime.datetime) -> str:
    """Return the verdict, and since when."""
    return f"{state(status)} {age(status.health.since, now)}" if is_checked(status) else NOT_CHECKED


def check_why(status: destination_pb2.DestinationStatus) -> str:
    """Return what there is to say of a destination that is not simply up, or does not stand as its verdict says."""
    health = status.health
    is_up = health.verdict == destination_pb2.VERDICT_UP
    why = health.detail if is_checked(status) and (not is_up or health.against) else ""
    return "; ".join(filter(None, (why, _note(health))))


def is_plainly_up(status: destination_pb2.DestinationStatus) -> bool:
    """Whether there is no more to say of what a check sees."""
    return status.health.verdict == destination_pb2.VERDICT_UP and not check_why(status)


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


def event_lines(answers: Sequence[tuple[AgentName, Sequence[health_pb2.HealthEvent]]], width: int = 0) -> list[str]:
    """Return the events of all directors as one table, the newest first.

    Where that does not fit into so many columns details stand below; 0: it fits.
    """
    found = [(event, agent) for agent, events in answers for event in events]
    found.sort(key=lambda each: each[0].time.ToNanoseconds(), reverse=True)
    if not found:
        return ["nothing has happened, as far as is remembered"]
    head = ["TIME (UTC)", *(["DIRECTOR"] if len(answers) > 1 else []), "EVENT", "VIRTUAL SERVER", "DESTINATION"]
    rows = [
        (
            f"{event.time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            *([agent.host] if len(answers) > 1 else []),
            _EVENTS.get(event.kind, f"event {event.kind}"),  # a newer agent may have others
            str(wire.unpack_key(event.virtual_server)),
            str(wire.unpack_destination_key(event.destination)) if event.HasField("destination") else "-",
        )
        for event, agent in found
    ]
    details = [event.detail for event, _ in found]
    whole = table([*head, "DETAIL"], ((*row, detail) for row, detail in zip(rows, details, strict=True))).splitlines()
    if fits(whole, width):
        return whole
    lines = table(head, rows).splitlines()
    return with_notes(lines, details, width, " " * lines[0].index(head[1]))
