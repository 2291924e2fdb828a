"""Messages about checks to the project's own types and back; what is not set has its default."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from lvsagent.v1 import check_pb2

from agent_common.check import (
    REAL_SERVER_PORT,
    AgentCheck,
    Check,
    DnsCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    Kind,
    ScriptCheck,
    SmtpCheck,
    TcpCheck,
    Tls,
    UdpCheck,
    name_in,
)
from agent_common.errors import InvalidInputError


def unpack_check(message: check_pb2.Check, field: str = "check") -> Check:
    """Read a check; its rules are its own (Check.check)."""
    interval = seconds_of(message, "interval", 5.0)
    return Check(
        kind=_unpack_kind(message, field),
        port=message.port,
        interval=interval,
        timeout=seconds_of(message, "timeout", min(2.0, interval)),
        rise=message.rise or 2,
        fall=message.fall or 3,
        through_vip=message.through_vip,
        agent_port=message.agent_port or REAL_SERVER_PORT,
        by_mark=message.by_mark,
    )


def pack_check(check: Check) -> check_pb2.Check:
    """Write a check, every field set."""
    message = check_pb2.Check(
        port=check.port,
        interval=duration(check.interval),
        timeout=duration(check.timeout),
        rise=check.rise,
        fall=check.fall,
        through_vip=check.through_vip,
        agent_port=check.agent_port,
        by_mark=check.by_mark,
    )
    _pack_kind(check.kind, message)
    return message


def seconds_of(message: Message, field: str, default: float) -> float:
    """Return a duration in seconds, or the default where it is not set."""
    if not message.HasField(field):
        return default
    value: Duration = getattr(message, field)
    return value.ToTimedelta().total_seconds()


def duration(seconds: float) -> Duration:
    """Write a time in seconds, to the microsecond."""
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def _unpack_kind(message: check_pb2.Check, field: str) -> Kind:
    match message.WhichOneof("kind"):
        case "tcp":
            return TcpCheck()
        case "http":
            return _unpack_http(message.http)
        case "grpc":
            return GrpcCheck(service=message.grpc.service, tls=_unpack_tls(message.grpc, message.grpc.tls))
        case "dns":
            asked = message.dns
            return DnsCheck(name=asked.name, type=asked.type or "A", answers=tuple(asked.answers), tcp=asked.tcp)
        case "udp":
            udp = message.udp
            if udp.reply and not udp.expect_reply:
                raise InvalidInputError(f"{field}.udp.reply", f"{field}.udp.reply: needs expect_reply")
            return UdpCheck(payload=udp.payload, reply=udp.reply if udp.expect_reply else None)
        case "icmp":
            return IcmpCheck()
        case "smtp":
            return SmtpCheck(helo=message.smtp.helo)
        case "script":
            return ScriptCheck(argv=tuple(message.script.argv))
        case "agent":
            return AgentCheck()
        case _:
            raise InvalidInputError(f"{field}.kind", f"{field}.kind: must be set: tcp, http, grpc, dns, udp and so on")


def _unpack_http(asked: check_pb2.HttpCheck) -> HttpCheck:
    return HttpCheck(
        method=asked.method or "GET",
        path=asked.path or "/",
        host=asked.host,
        headers=tuple((each.name, each.value) for each in asked.headers),
        statuses=tuple((each.first, each.last) for each in asked.statuses) or ((200, 299),),
        body=asked.body,
        tls=_unpack_tls(asked, asked.tls, asked.host),
    )


def _unpack_tls(asked: Message, tls: check_pb2.CheckTls, host: str = "") -> Tls | None:
    if not asked.HasField("tls"):
        return None
    name = tls.server_name or name_in(host)
    return Tls(server_name=name, verify=not tls.skip_verification, ca_file=tls.ca_file)


def _pack_kind(kind: Kind, message: check_pb2.Check) -> None:
    match kind:
        case TcpCheck():
            message.tcp.SetInParent()
        case HttpCheck():
            message.http.CopyFrom(_pack_http(kind))
        case GrpcCheck():
            message.grpc.CopyFrom(check_pb2.GrpcCheck(service=kind.service, tls=_pack_tls(kind.tls)))
        case DnsCheck():
            message.dns.CopyFrom(check_pb2.DnsCheck(name=kind.name, type=kind.type, answers=kind.answers, tcp=kind.tcp))
        case UdpCheck():
            expected = kind.reply is not None
            message.udp.CopyFrom(
                check_pb2.UdpCheck(payload=kind.payload, reply=kind.reply or b"", expect_reply=expected)
            )
        case IcmpCheck():
            message.icmp.SetInParent()
        case SmtpCheck():
            message.smtp.CopyFrom(check_pb2.SmtpCheck(helo=kind.helo))
        case ScriptCheck():
            message.script.CopyFrom(check_pb2.ScriptCheck(argv=kind.argv))
        case AgentCheck():
            message.agent.SetInParent()


def _pack_http(kind: HttpCheck) -> check_pb2.HttpCheck:
    return check_pb2.HttpCheck(
        method=kind.method,
        path=kind.path,
        host=kind.host,
        headers=[check_pb2.HttpHeader(name=name, value=value) for name, value in kind.headers],
        statuses=[check_pb2.StatusRange(first=first, last=last) for first, last in kind.statuses],
        body=kind.body,
        tls=_pack_tls(kind.tls),
    )


def _pack_tls(tls: Tls | None) -> check_pb2.CheckTls | None:
    if tls is None:
        return None
    return check_pb2.CheckTls(server_name=tls.server_name, skip_verification=not tls.verify, ca_file=tls.ca_file)
