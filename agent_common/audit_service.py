"""AuditService of both agents. Unpack, call, pack."""

from __future__ import annotations

import asyncio

from lvsagent.v1 import audit_service_pb2, audit_service_pb2_grpc

from agent_common.audit import matches
from agent_common.audit_file import AuditFile
from agent_common.handlers import Context


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Serves AuditService."""

    def __init__(self, file: AuditFile) -> None:
        self._file = file
        self._one = asyncio.Semaphore(1)

    async def ListAudit(
        self, request: audit_service_pb2.ListAuditRequest, context: Context
    ) -> audit_service_pb2.ListAuditResponse:
        """Read the records; not in the thread of kernel and state, which it would keep waiting."""
        async with self._one:  # each reads all that is kept
            return await asyncio.to_thread(self._read, request)

    def _read(self, request: audit_service_pb2.ListAuditRequest) -> audit_service_pb2.ListAuditResponse:
        since = request.since.ToNanoseconds()
        records, more = self._file.page(
            request.page_size,
            request.page_token,
            lambda record: (
                record.time.ToNanoseconds() >= since and (not request.containing or matches(record, request.containing))
            ),
        )
        return audit_service_pb2.ListAuditResponse(records=records, next_page_token=more)
