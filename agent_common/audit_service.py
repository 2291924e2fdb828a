"""AuditService of both agents. Unpack, call, pack."""

from __future__ import annotations

import asyncio
import re
from itertools import islice

from lvsagent.v1 import audit_service_pb2, audit_service_pb2_grpc

from agent_common.audit import matches
from agent_common.audit_file import AuditFile
from agent_common.errors import InvalidInputError
from agent_common.handlers import Context
from agent_common.paging import MAX_PAGE, check_page_size

_TOKEN = re.compile("[0-9]{0,18}")
"""The number of a record."""


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Serves AuditService."""

    def __init__(self, file: AuditFile) -> None:
        self._file = file
        self._one = asyncio.Semaphore(1)

    async def ListAudit(
        self, request: audit_service_pb2.ListAuditRequest, context: Context
    ) -> audit_service_pb2.ListAuditResponse:
        """Read the records; not in the thread of kernel and state, which it would keep waiting."""
        check_page_size(request.page_size)
        if not _TOKEN.fullmatch(request.page_token):
            raise InvalidInputError("page_token", "page_token: is none of an answer of this call")
        async with self._one:  # each reads all that is kept
            return await asyncio.to_thread(self._read, request)

    def _read(self, request: audit_service_pb2.ListAuditRequest) -> audit_service_pb2.ListAuditResponse:
        since = request.since.ToNanoseconds()
        before = int(request.page_token or 0)
        found = (
            (number, record)
            for number, record in self._file.newest_first()
            if (not before or number < before)
            and record.time.ToNanoseconds() >= since
            and (not request.containing or matches(record, request.containing))
        )
        size = request.page_size or MAX_PAGE
        part = list(islice(found, size + 1))
        more = str(part[size - 1][0]) if len(part) > size else ""
        return audit_service_pb2.ListAuditResponse(records=[record for _, record in part[:size]], next_page_token=more)
