"""Where the audit's records are: a record is written before its caller gets the answer."""

from __future__ import annotations

from pathlib import Path

from agent_common.audit import AuditRecord
from agent_common.record_file import MAX_BYTES, RecordFile

AuditFile = RecordFile[AuditRecord]


def open_audit(folder: Path, max_bytes: int = MAX_BYTES) -> AuditFile:
    """Return audit.jsonl in a folder."""
    return RecordFile(folder / "audit.jsonl", AuditRecord, max_bytes)
