"""A policy of health checks in a few words: what it asks, and what differs from the defaults. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from agent_common.check import (
    REAL_SERVER_PORT,
    Check,
    DnsCheck,
    GrpcCheck,
    HttpCheck,
    Kind,
    ScriptCheck,
    SmtpCheck,
    Tls,
    UdpCheck,
    kind_name,
    name_in,
)
from agent_common.health import Damping, DynamicWeight, Floor, HealthPolicy, Start, WeightSource

_WIDTH = 60
"""Characters of a text from a policy, at most: it may be a page long."""

_SECRET = ("authorization", "proxy-authorization", "cookie", "x-api-key")
"""Headers whose values are no business of whoever looks over a shoulder; --output json has them."""


def policy_lines(policy: HealthPolicy) -> list[str]:
    """Return the check, what else differs from the defaults, and the destinations that are checked in another way."""
    lines = [check_text(policy.check)]
    rest = ", ".join(_rest(policy))
    lines += [rest] if rest else []
    lines += [f"{key}: {_override(each, policy.check)}" for key, each in policy.overrides.items()]
    return lines


def check_text(check: Check) -> str:
    """Return what is asked, where and how often."""
    return ", ".join([" ".join([kind_name(check.kind), *_asked(check.kind)]), *_timing(check)])


def _override(check: Check | None, usual: Check) -> str:
    if check is None:
        return "not checked"
    return check_text(check) if check != usual else "as the others"


def _asked(kind: Kind) -> Iterator[str]:
    match kind:
        case HttpCheck():
            yield from _http(kind)
        case GrpcCheck():
            yield from (_short(kind.service),) if kind.service else ()
            yield from _tls(kind.tls, "") if kind.tls is not None else ()
        case DnsCheck():
            yield f"{kind.name} {kind.type}"
            yield from (f"= {' or '.join(map(_short, kind.answers))}",) if kind.answers else ()
            yield from ("over TCP",) if kind.tcp else ()
        case UdpCheck():
            yield from (_octets(kind.payload),) if kind.payload else ()
            if kind.reply is not None:
                yield f"and a reply that begins with {_octets(kind.reply)}" if kind.reply else "and any reply"
        case SmtpCheck():
            yield from (f"EHLO {kind.helo}",) if kind.helo else ()
        case ScriptCheck():
            yield _short(shlex.join(kind.argv))


def _http(kind: HttpCheck) -> Iterator[str]:
    yield f"{kind.method} {kind.path}"
    if kind.host:
        yield f"of {kind.host}"
    for name, value in kind.headers:
        yield f"with {name}: {'...' if name.lower() in _SECRET else _short(value)}"
    if kind.statuses != ((200, 299),):
        yield f"= {' or '.join(f'{first}-{last}' if first != last else str(first) for first, last in kind.statuses)}"
    if kind.body:
        yield f"with {_quoted(kind.body)} in the body"
    if kind.tls is not None:
        yield from _tls(kind.tls, name_in(kind.host))


def _tls(tls: Tls, usual: str) -> Iterator[str]:
    name = f" as {tls.server_name}" if tls.server_name and tls.server_name != usual else ""
    if not tls.verify:
        yield f"TLS{name} without verification"
    elif tls.ca_file:
        yield f"TLS{name} by {tls.ca_file}"
    elif name or not usual:
        yield f"TLS{name}"


def _timing(check: Check) -> Iterator[str]:
    usual = Check(kind=check.kind)
    if check.port:
        yield f"port {check.port}"
    yield f"every {check.interval:g} s"
    if check.timeout != min(usual.timeout, check.interval):
        yield f"timeout {check.timeout:g} s"
    for name in ("rise", "fall"):
        if getattr(check, name) != getattr(usual, name):
            yield f"{name} {getattr(check, name)}"
    if check.through_vip:
        yield "through the VIP" + (" by a mark" if check.by_mark else "")
    if check.agent_port != REAL_SERVER_PORT:
        yield f"agent port {check.agent_port}"


def _rest(policy: HealthPolicy) -> Iterator[str]:
    if policy.start is not Start.DOWN:
        yield "start up"
    if policy.effect is not None:
        yield f"effect {policy.effect.value}"
    if policy.slow_start:
        yield f"slow start {policy.slow_start:g} s"
    if policy.dynamic_weight is not None:
        yield _dynamic(policy.dynamic_weight)
    if policy.quorum != 1 or policy.hysteresis:
        yield f"quorum {policy.quorum}" + (f" ± {policy.hysteresis}" if policy.hysteresis else "")
    if policy.sorry is not None:
        yield f"sorry server {policy.sorry}"
    if policy.floor != Floor():
        yield f"floor {policy.floor.destinations if policy.floor.percent is None else f'{policy.floor.percent} %'}"
    if policy.damping != Damping():
        yield _damping(policy.damping)
    if policy.max_changes != HealthPolicy(check=policy.check).max_changes:
        yield f"at most {policy.max_changes} changes a second"
    for name, argv in (("up", policy.up_command), ("down", policy.down_command)):
        if argv:
            yield f"{name} command {_short(shlex.join(argv))}"


def _dynamic(dynamic: DynamicWeight) -> str:
    source = dynamic.source.value
    if dynamic.source is WeightSource.HTTP_HEADER:
        source += f":{dynamic.header}"
    return f"weight by {source}, {dynamic.min_percent} to {dynamic.max_percent} %"


def _damping(damping: Damping) -> str:
    if not damping.hold:
        return "never held out"
    return f"held out {damping.hold:g} s after {damping.falls} falls in {damping.window:g} s"


def _octets(octets: bytes) -> str:
    """Return octets as they may be typed: as text where that can be read."""
    text = octets.decode("ascii", "replace")
    if text.isprintable() and "\ufffd" not in text and not text.startswith("0x"):
        return _quoted(text)
    return _short(f"0x{octets.hex()}")


def _quoted(text: str) -> str:
    return f'"{_short(text)}"'


def _short(text: str) -> str:
    clean = "".join(each if each.isprintable() else "?" for each in text)
    return clean if len(clean) <= _WIDTH else clean[: _WIDTH - 3] + "..."
