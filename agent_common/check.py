"""Checks of real servers: what each kind asks, when, and the rules for it. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from agent_common.check_input import (
    check_header,
    check_host_name,
    check_number,
    check_text,
    ip_version,
    is_name,
    octets,
)
from agent_common.errors import InvalidInputError
from agent_common.virtual_server import check_port

REAL_SERVER_PORT = 9711
"""Where a real server's agent listens, unless a check says otherwise."""

BODY_BYTES = 64 * 1024
"""Octets of an answer's body that are looked at."""

MAX_COUNT = 100
"""Of checks in a row that pass or fail."""

RECORD_TYPES = (
    *("A", "AAAA", "CAA", "CNAME", "DNSKEY", "DS", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SOA", "SRV", "SSHFP", "SVCB"),
    *("TLSA", "TXT"),
)
"""Of DNS, that can be asked for."""

_ADDRESS_RECORDS = {"A": 4, "AAAA": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a check speaks TLS; ca_file is on the host that checks, "" for the host's own CAs."""

    server_name: str = ""
    verify: bool = True
    ca_file: str = ""

    def check(self, field: str) -> None:
        """Raise InvalidInputError for what cannot be verified."""
        if self.verify and not self.server_name:
            raise InvalidInputError(
                f"{field}.server_name",
                f"{field}.server_name: must be set: without a name the certificate cannot be verified; "
                "or switch verification off",
            )
        if self.server_name:
            check_host_name(self.server_name, f"{field}.server_name")
        if self.ca_file and not self.verify:
            raise InvalidInputError(f"{field}.ca_file", f"{field}.ca_file: not where verification is off")
        if self.ca_file and not self.ca_file.startswith("/"):
            raise InvalidInputError(f"{field}.ca_file", f"{field}.ca_file: {self.ca_file!r} is not a whole path")


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck:
    """A TCP connection is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """A request is answered with a status in one of the ranges (first, last), and with a text in the body."""

    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    body: str = ""
    tls: Tls | None = None

    def check(self, field: str) -> None:
        """Raise InvalidInputError for a request that cannot be sent, or an answer that cannot come."""
        if not re.fullmatch(r"[A-Z]{1,20}", self.method):
            raise InvalidInputError(
                f"{field}.method",
                f"{field}.method: {self.method[:80]!r} is no method in capitals, such as GET",
            )
        if self.method == "CONNECT":
            raise InvalidInputError(f"{field}.method", f"{field}.method: CONNECT asks for a tunnel, not for a path")
        if not re.fullmatch(r"/[!-~]*", self.path):
            raise InvalidInputError(
                f"{field}.path",
                f"{field}.path: {self.path[:80]!r} must begin with / and be printable ASCII without blanks, "
                "as in a URL",
            )
        check_text(f"{field}.path", octets(f"{field}.path", self.path), empty=False)
        if self.host and not re.fullmatch(r"[!-.0-~]{1,255}", self.host):
            raise InvalidInputError(f"{field}.host", f"{field}.host: {self.host[:80]!r} is no host")
        check_number(f"{field}.headers", len(self.headers))
        for name, value in self.headers:
            check_header(f"{field}.headers", name, value)
        check_number(f"{field}.statuses", len(self.statuses))
        for first, last in self.statuses:
            if not 200 <= first <= last <= 599:
                raise InvalidInputError(
                    f"{field}.statuses", f"{field}.statuses: {first}-{last} is no range of status codes (200 to 599)"
                )
        check_text(f"{field}.body", octets(f"{field}.body", self.body))
        if self.body and self.method == "HEAD":
            raise InvalidInputError(f"{field}.body", f"{field}.body: an answer to HEAD has none")
        if self.tls is not None:
            self.tls.check(f"{field}.tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCheck:
    """The health service says that a service, "" for all of the server, is SERVING."""

    service: str = ""
    tls: Tls | None = None

    def check(self, field: str) -> None:
        """Raise InvalidInputError for what cannot be asked."""
        check_text(f"{field}.service", octets(f"{field}.service", self.service))
        if self.tls is not None:
            if not self.tls.verify:
                name = f"{field}.tls.skip_verification"
                raise InvalidInputError(name, f"{name}: grpcio always verifies; give a server_name and a ca_file")
            self.tls.check(f"{field}.tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsCheck:
    """A question is answered, with one of the records if some are given, in the text form of zone files."""

    name: str
    type: str = "A"
    answers: tuple[str, ...] = ()
    tcp: bool = False

    def check(self, field: str) -> None:
        """Raise InvalidInputError for what is no question."""
        if self.name != "." and not is_name(self.name):
            raise InvalidInputError(f"{field}.name", f"{field}.name: {self.name[:80]!r} is no name to ask for")
        if self.type not in RECORD_TYPES:
            known = ", ".join(RECORD_TYPES)
            raise InvalidInputError(f"{field}.type", f"{field}.type: {self.type[:80]!r} is not one of {known}")
        check_number(f"{field}.answers", len(self.answers))
        for each in self.answers:
            check_text(f"{field}.answers", octets(f"{field}.answers", each), empty=False)
            self._check_answer(f"{field}.answers", each)

    def _check_answer(self, field: str, text: str) -> None:
        """Raise InvalidInputError for an address that is none; other records are for the agent to read."""
        version = _ADDRESS_RECORDS.get(self.type)
        if version is not None and ip_version(text) != version:
            raise InvalidInputError(field, f"{field}: {text[:80]!r} is no IPv{version} address, as {self.type} has")


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpCheck:
    """A datagram brings no ICMP error back, and a reply that begins so, if one is expected; None: none is."""

    payload: bytes = b""
    reply: bytes | None = None

    def check(self, field: str) -> None:
        """Raise InvalidInputError for too much."""
        check_text(f"{field}.payload", self.payload)
        check_text(f"{field}.reply", self.reply or b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpCheck:
    """An ICMP echo is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpCheck:
    """A server greets with 220 and answers EHLO with 250; helo "" is the name of the host that checks."""

    helo: str = ""

    def check(self, field: str) -> None:
        """Raise InvalidInputError for what is no name."""
        if self.helo:
            check_host_name(self.helo, f"{field}.helo")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptCheck:
    """A program ends with status 0; with a dynamic weight others pass, too."""

    argv: tuple[str, ...]

    def check(self, field: str) -> None:
        """Raise InvalidInputError for what cannot be run; whether it is allowed is for the agent to say."""
        check_argv(self.argv, f"{field}.argv")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCheck:
    """The real server's agent says that something listens, and that VIP and sysctls are in place."""


Kind = TcpCheck | HttpCheck | GrpcCheck | DnsCheck | UdpCheck | IcmpCheck | SmtpCheck | ScriptCheck | AgentCheck

KIND_NAMES: dict[str, type[Kind]] = {
    "tcp": TcpCheck,
    "http": HttpCheck,
    "grpc": GrpcCheck,
    "dns": DnsCheck,
    "udp": UdpCheck,
    "icmp": IcmpCheck,
    "smtp": SmtpCheck,
    "script": ScriptCheck,
    "agent": AgentCheck,
}
"""What the command line calls them; https is http with TLS."""

_NAMES = {each: name for name, each in KIND_NAMES.items()}
_WITHOUT_PORT = (IcmpCheck, ScriptCheck)
_HARMLESS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing (RFC 9110, 9.2.1)."""

_ONLY_HERE = (IcmpCheck, ScriptCheck, AgentCheck)


def kind_name(kind: Kind) -> str:
    """Return the command line's word for a kind of check."""
    return "https" if isinstance(kind, HttpCheck) and kind.tls is not None else _NAMES[type(kind)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a real server is asked: what, where, how often and how long; interval and timeout are in seconds.

    port 0 is the destination's. rise checks that pass in a row bring it back, fall that fail take it out. through_vip:
    the real server's agent asks the VIP; by_mark: the director itself does.
    """

    kind: Kind
    port: int = 0
    interval: float = 5.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    through_vip: bool = False
    agent_port: int = REAL_SERVER_PORT
    by_mark: bool = False

    def check(self, field: str = "check") -> Check:
        """Raise InvalidInputError for an impossible check; return it."""
        check_port(self.port, f"{field}.port")
        check_port(self.agent_port, f"{field}.agent_port", zero=False)
        check_seconds(f"{field}.interval", self.interval, 0.1, 3600)
        check_seconds(f"{field}.timeout", self.timeout, 0.01, 3600)
        if self.timeout > self.interval:
            raise InvalidInputError(
                f"{field}.timeout",
                f"{field}.timeout: {self.timeout:g} s is longer than the interval ({self.interval:g} s)",
            )
        for name, count in (("rise", self.rise), ("fall", self.fall)):
            if not 1 <= count <= MAX_COUNT:
                raise InvalidInputError(
                    f"{field}.{name}", f"{field}.{name}: {count} is out of range (1 to {MAX_COUNT})"
                )
        if self.through_vip and isinstance(self.kind, _ONLY_HERE):
            raise InvalidInputError(
                f"{field}.through_vip", f"{field}.through_vip: not with a check of kind {kind_name(self.kind)}"
            )
        if self.by_mark and not self.through_vip:
            raise InvalidInputError(f"{field}.by_mark", f"{field}.by_mark: goes with through_vip")
        if self.by_mark and isinstance(self.kind, GrpcCheck):
            raise InvalidInputError(
                f"{field}.by_mark", f"{field}.by_mark: not with grpc, whose connections have no mark"
            )
        if (
            self.through_vip
            and not self.by_mark
            and isinstance(self.kind, HttpCheck)
            and self.kind.method.upper() not in _HARMLESS
        ):
            # Any viewer of the real server's agent may have it make such a check, from the host itself.
            raise InvalidInputError(
                f"{field}.http.method", f"{field}.http.method: only {', '.join(_HARMLESS)} through the VIP"
            )
        if not isinstance(self.kind, TcpCheck | IcmpCheck | AgentCheck):
            self.kind.check(f"{field}.{_NAMES[type(self.kind)]}")
        return self

    def port_of(self, destination_port: int) -> int:
        """Return the port that is asked; 0 if the kind needs none and there is none."""
        return self.port or destination_port

    @property
    def needs_port(self) -> bool:
        """Whether it cannot be made without a port."""
        return not isinstance(self.kind, _WITHOUT_PORT)


def with_defaults(check: Check) -> Check:
    """Return a check whose timeout is no longer than its interval, where nobody has chosen it."""
    return replace(check, timeout=min(check.timeout, check.interval))


def check_argv(argv: tuple[str, ...], field: str) -> None:
    """Raise InvalidInputError for what is no command: a program's whole path, and its arguments."""
    if not argv or not argv[0].startswith("/"):
        raise InvalidInputError(field, f"{field}: must begin with a program's whole path; no shell looks for it")
    if any("\0" in word for word in argv):
        raise InvalidInputError(field, f"{field}: a word has a NUL in it")
    check_number(field, len(argv))
    for word in argv:
        check_text(field, octets(field, word))


def name_in(host: str) -> str:
    """Return the name or address in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def check_seconds(field: str, seconds: float, least: float, most: float) -> None:
    """Raise InvalidInputError for a time that is out of range."""
    if not least <= seconds <= most:
        raise InvalidInputError(field, f"{field}: {seconds:g} s is out of range ({least:g} s to {most:g} s)")
