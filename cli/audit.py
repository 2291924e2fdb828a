"""Who has changed what: asks agents for their records, and prints them as one list."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lvsagent.v1 import audit_service_pb2, audit_service_pb2_grpc

from agent_common.errors import InvalidInputError
from agent_common.paging import MAX_PAGE
from cli.reading import Reading
from cli.show import run_merged
from cli.text_table import table

if TYPE_CHECKING:
    from cli.client import AgentClient
    from cli.site import AgentName, Site
    from cli.terminal import Terminal

Record = audit_service_pb2.AuditRecord

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str) -> datetime.datetime | None:
    """Read 90s, 10m, 2h or 7d before now, or a time of UTC as ISO 8601 writes it; nothing for an empty text."""
    if not text:
        return None
    ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    try:
        if ago:
            return datetime.datetime.now(datetime.UTC) - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    except (ValueError, OverflowError):
        raise InvalidInputError(
            "since", f"since: cannot read {text!r}; write 90s, 10m, 2h, 7d, or 2026-11-28T16:00"
        ) from None


def run_audit(
    site: Site,
    terminal: Terminal,
    agents: Sequence[AgentName],
    *,
    since: datetime.datetime | None,
    containing: str,
    limit: int,
) -> int:
    """Print the newest records of some agents, and return the exit status: of the worst that did not answer."""

    async def read(client: AgentClient) -> list[Record]:
        return await list_records(client, since, containing, limit)

    return run_merged(site, terminal, agents, read, audit_lines)


async def list_records(
    client: AgentClient, since: datetime.datetime | None, containing: str, limit: int
) -> list[Record]:
    """Return the newest records of an agent, page by page."""
    stub = audit_service_pb2_grpc.AuditServiceStub(client.channel)
    found: list[Record] = []
    token = ""
    while len(found) < limit:
        request = audit_service_pb2.ListAuditRequest(
            page_size=min(limit - len(found), MAX_PAGE), page_token=token, containing=containing
        )
        if since is not None:
            request.since.FromDatetime(since)
        answer: audit_service_pb2.ListAuditResponse = await client.ask(stub.ListAudit, request)
        found.extend(answer.records)
        token = answer.next_page_token
        if not token:
            break
    return found


def audit_lines(readings: Sequence[Reading[list[Record]]]) -> list[str]:
    """Return the records of all agents as one table, the newest first."""
    found = [(record, reading.agent) for reading in readings for record in reading.answer or ()]
    found.sort(key=lambda each: each[0].time.ToNanoseconds(), reverse=True)
    if not found:
        return ["nothing was changed, as far as is remembered"]
    rows = [
        [
            f"{record.time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            agent.host,
            _short(record.caller),
            record.method,
            _changed(record),
            record.outcome if not record.message else f"{record.outcome}: {record.message}",
        ]
        for record, agent in found
    ]
    return table(["TIME (UTC)", "AGENT", "CALLER", "CALL", "CHANGED", "OUTCOME"], rows).splitlines()


def _short(caller: str) -> str:
    """Return role and name of an identity, or what else names a caller."""
    return caller.partition("/lvs/")[2] or caller


def _changed(record: Record) -> str:
    names = [each.resource for each in record.changes]
    if len(names) > 2:
        return f"{names[0]} and {len(names) - 1} more"
    return ", ".join(names) or "-"
