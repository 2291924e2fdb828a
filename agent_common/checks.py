"""The kinds of checks that need nothing but the network, by their types; both agents make them."""

from __future__ import annotations

from agent_common.check import (
    DnsCheck,
    GrpcCheck,
    HttpCheck,
    Kind,
    SmtpCheck,
    TcpCheck,
    UdpCheck,
    kind_name,
)
from agent_common.check_dns import check_dns
from agent_common.check_grpc import check_grpc
from agent_common.check_http import check_http
from agent_common.check_smtp import check_smtp
from agent_common.check_tcp import check_tcp
from agent_common.check_tls import TlsContexts
from agent_common.check_udp import check_udp
from agent_common.checker import Answer, Target
from agent_common.errors import InternalError, Reason


class NetworkChecks:
    """agent_common.checker.Checker for tcp, http, grpc, dns, udp and smtp."""

    def __init__(self) -> None:
        self._contexts = TlsContexts()
        self._grpc_contexts = TlsContexts(("h2",))

    async def __call__(self, kind: Kind, target: Target, seconds: float) -> Answer:
        """Make one check; raises InternalError for a kind that is not made here."""
        match kind:
            case TcpCheck():
                return await check_tcp(kind, target, seconds)
            case HttpCheck():
                return await check_http(kind, target, seconds, self._contexts)
            case GrpcCheck():
                return await check_grpc(kind, target, seconds, self._grpc_contexts)
            case DnsCheck():
                return await check_dns(kind, target, seconds)
            case UdpCheck():
                return await check_udp(kind, target, seconds)
            case SmtpCheck():
                return await check_smtp(kind, target, seconds)
        raise InternalError(f"cannot make a check of kind {kind_name(kind)} here", Reason.INTERNAL)
