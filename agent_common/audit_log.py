"""Where the records of the audit go: into the agent's own file, and into the journal or the log."""

from __future__ import annotations

import json
import logging

from agent_common.audit import AuditRecord
from agent_common.audit_file import AuditFile
from agent_common.journal import Journal

_log = logging.getLogger(__name__)


class AuditLog:
    """Keeps records in a file, if there is one, and tells them: to the journal with named fields, else to the log."""

    def __init__(self, file: AuditFile | None = None, journal: Journal | None = None) -> None:
        self._file = file
        self._journal = journal

    def record(self, record: AuditRecord) -> None:
        """Keep and tell one record."""
        if self._file is not None:
            self._file.append(record)
        line = _line(record)
        if self._journal is None or not self._journal.send(line, _fields(record)):
            _log.info("%s", line)


def _line(record: AuditRecord) -> str:
    milliseconds = record.duration.ToTimedelta().total_seconds() * 1000
    parts = [
        f"change method={record.method}",
        f"peer={record.peer}",
        f"caller={json.dumps(record.caller)}",
        f"outcome={record.outcome}",
        f"ms={milliseconds:.0f}",
    ]
    if record.transaction_id:
        parts.append(f"transaction={json.dumps(record.transaction_id)}")
    if record.message:
        parts.append(f"message={json.dumps(record.message)}")
    return " ".join(parts)


def _fields(record: AuditRecord) -> dict[str, str]:
    """Return the fields by which journalctl finds it: journalctl LVS_CALLER=spiffe://..."""
    changes = record.changes
    fields = {
        "LVS_CALLER": record.caller,
        "LVS_ROLE": record.role,
        "LVS_PEER": record.peer,
        "LVS_METHOD": record.method,
        "LVS_TRANSACTION": record.transaction_id,
        "LVS_CHANGE": record.change_id,
        "LVS_REQUEST": record.request,
        "LVS_RESOURCE": "\n".join(each.resource for each in changes),
        "LVS_BEFORE": "\n".join(each.before for each in changes),
        "LVS_AFTER": "\n".join(each.after for each in changes),
        "LVS_OUTCOME": record.outcome,
        "LVS_MESSAGE": record.message,
    }
    return {name: value for name, value in fields.items() if value}
