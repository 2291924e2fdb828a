"""The options of lvs health set that make a check: what each belongs to, and what comes of them. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent_common.check import (
    KIND_NAMES,
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
    kind_name,
    name_in,
    with_defaults,
)
from agent_common.errors import InvalidInputError

NONE, INHERIT = "none", "inherit"
"""--check of a destination: it is not checked; it has no check of its own any more."""

KINDS = ("tcp", "http", "https", "grpc", "dns", "udp", "icmp", "smtp", "script", "agent")
"""In the order in which they are told."""

_HTTP = {
    "method": "method",
    "path": "path",
    "host": "host",
    "header": "headers",
    "status": "statuses",
    "body": "body",
}
_TLS = {"server_name": "server_name", "verify": "verify", "ca_file": "ca_file"}

_FIELDS: dict[type[Kind], dict[str, str]] = {
    TcpCheck: {},
    HttpCheck: _HTTP,
    GrpcCheck: {"grpc_service": "service"},
    DnsCheck: {"name": "name", "type": "type", "answer": "answers", "tcp": "tcp"},
    UdpCheck: {"payload": "payload", "reply": "reply", "no_reply": "reply"},
    IcmpCheck: {},
    SmtpCheck: {"helo": "helo"},
    ScriptCheck: {"command": "argv"},
    AgentCheck: {},
}
"""The options that belong to a kind, and the fields that they set."""

_HERE_ONLY = (IcmpCheck, ScriptCheck, AgentCheck)
"""What is not asked through the VIP's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What was given of a check; kind "" keeps the one that is there.

    timing: fields of Check; what: those of its kind by the names of their options. Only what was given is in them.
    """

    kind: str = ""
    timing: Mapping[str, Any] = field(default_factory=dict)
    what: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind and self.kind not in (*KINDS, NONE, INHERIT):
            raise InvalidInputError("check", f"check: {self.kind!r} is unknown; use {', '.join(KINDS[:-1])} or agent")
        if {"reply", "no_reply"} <= self.what.keys():
            raise InvalidInputError("no_reply", "no_reply: not with --reply")
        if self.kind in (NONE, INHERIT) and self.options:
            raise InvalidInputError(self.options[0], f"{self.options[0]}: not with --check {self.kind}")

    @property
    def options(self) -> list[str]:
        """The names of the options that were given, --check apart."""
        return [*self.timing, *self.what]

    def __bool__(self) -> bool:
        return bool(self.kind or self.options)


def make_check(given: CheckOptions, base: Check | None) -> Check:
    """Return the check that is meant, from the one that is there; a new kind keeps of it where and when it asks.

    A timeout that nobody has chosen is no longer than the interval. Raises InvalidInputError for an option that does
    not belong to the kind; the rules of a check are its own.
    """
    kind = _kind(given, base.kind if base else None)
    was = base or Check(kind=kind)
    through_vip = was.through_vip and not isinstance(kind, _HERE_ONLY)
    timing = {"through_vip": through_vip, **given.timing}
    by_mark = was.by_mark and timing["through_vip"] and not isinstance(kind, GrpcCheck)
    made = replace(was, **{"kind": kind, "by_mark": by_mark, **timing})
    chosen = "timeout" in given.timing or was.timeout != min(_DEFAULT_TIMEOUT, was.interval)
    return made if chosen else with_defaults(made)


def check_alone(given: CheckOptions) -> Check:
    """Return a check with what was given, where that may be changed: for the rules that need no more to be applied.

    What may be there already, such as the name that a DNS check asks for, is made up so that it breaks none of them.
    """
    kind: Kind = TcpCheck()
    if given.kind in KINDS:
        made_up = _MADE_UP.get("https" if given.what.get("tls") else given.kind, {})
        kind = _kind(CheckOptions(kind=given.kind, what={**made_up, **given.what}), None)
    timing = {"interval": 3600.0, "timeout": 0.01, "through_vip": bool(given.timing.get("by_mark")), **given.timing}
    if given.timing.get("by_mark") and isinstance(kind, _HERE_ONLY):
        raise InvalidInputError("by_mark", f"by_mark: not with a check of kind {kind_name(kind)}")
    return Check(kind=kind, **timing)


_DEFAULT_TIMEOUT = 2.0
_NEW: dict[type[Kind], Kind] = {
    type(each): each
    for each in (TcpCheck(), HttpCheck(), GrpcCheck(), UdpCheck(), IcmpCheck(), SmtpCheck(), AgentCheck())
}
"""What those kinds ask that need no option."""

_MADE_UP: dict[str, dict[str, Any]] = {
    "https": {"server_name": "made.up"},
    "dns": {"name": "made.up", "type": "TXT"},
    "script": {"command": ("/made/up",)},
}


def _kind(given: CheckOptions, base: Kind | None) -> Kind:
    """Return what is asked: as before where that is meant; http and https differ in TLS alone."""
    name = given.kind or (kind_name(base) if base else "")
    if not name:
        raise InvalidInputError("check", f"check: must be given; use {', '.join(KINDS[:-1])} or agent")
    wanted: type[Kind] = HttpCheck if name == "https" else KIND_NAMES[name]
    has_tls = name == "https" or (wanted is GrpcCheck and _grpc_has_tls(given, base))
    _check_belonging(given, name, wanted, has_tls)
    start = base if isinstance(base, wanted) else _new(name, wanted, given)
    fields = {_FIELDS[wanted][each]: value for each, value in given.what.items() if each in _FIELDS[wanted]}
    made: Kind = replace(start, **fields)
    if isinstance(made, HttpCheck | GrpcCheck):
        return replace(made, tls=_tls(given, base, made) if has_tls else None)
    return made


def _new(name: str, wanted: type[Kind], given: CheckOptions) -> Kind:
    if wanted is DnsCheck:
        return DnsCheck(name=_needed(given, "name", name))
    if wanted is ScriptCheck:
        return ScriptCheck(argv=_needed(given, "command", name))
    return _NEW[wanted]


def _needed(given: CheckOptions, option: str, name: str) -> Any:
    if option not in given.what:
        raise InvalidInputError(option, f"{option}: must be given with --check {name}")
    return given.what[option]


def _grpc_has_tls(given: CheckOptions, base: Kind | None) -> bool:
    has = isinstance(base, GrpcCheck) and base.tls is not None
    return bool(given.what.get("tls", has))


def _check_belonging(given: CheckOptions, name: str, wanted: type[Kind], has_tls: bool) -> None:
    known = {*_FIELDS[wanted], *(_TLS if has_tls else ()), *(("tls",) if wanted is GrpcCheck else ())}
    for each in given.what:
        if each not in known:
            way_out = ""
            if each in _TLS and wanted in (HttpCheck, GrpcCheck):
                way_out = "; use --check https" if wanted is HttpCheck else "; give --tls, too"
            raise InvalidInputError(each, f"{each}: does not belong to a check of kind {name}{way_out}")


def _tls(given: CheckOptions, base: Kind | None, made: HttpCheck | GrpcCheck) -> Tls:
    """Return how TLS is spoken; a name that nobody has chosen follows the Host header.

    Who has it verified no more needs no CA, and need not say so.
    """
    was = base.tls if isinstance(base, type(made)) and base.tls is not None else Tls()
    if isinstance(base, HttpCheck) and was.server_name == name_in(base.host):
        was = replace(was, server_name="")
    if given.what.get("verify") is False:
        was = replace(was, ca_file="")
    tls = replace(was, **{field: given.what[each] for each, field in _TLS.items() if each in given.what})
    if isinstance(made, HttpCheck) and not tls.server_name:
        return replace(tls, server_name=name_in(made.host))
    return tls
