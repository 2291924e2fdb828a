"""What an operator should know of certificates that end soon: the agents', and their own. No printing."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from lvsagent.v1 import host_service_pb2

from agent_common.certificate import expiry_warning, read_certificate
from agent_common.endpoint import TlsFiles
from cli.site import AgentName


def expiry_warnings(
    hosts: Iterable[tuple[AgentName, host_service_pb2.GetHostResponse]],
    tls: TlsFiles | None,
    now: datetime.datetime,
) -> list[str]:
    """Return a line for each certificate that is about to end, or has ended."""
    ends = [
        (f"the certificate of {agent}", host.certificate_expires.ToDatetime(tzinfo=datetime.UTC))
        for agent, host in hosts
        if host.HasField("certificate_expires")
    ]
    if tls is not None:
        ca, own, _ = tls.read()
        ends = [
            ("your certificate", read_certificate(own).not_after),
            ("the CA", read_certificate(ca).not_after),
            *ends,
        ]
    warnings = (expiry_warning(whose, until, now) for whose, until in ends)
    return [each for each in warnings if each]
