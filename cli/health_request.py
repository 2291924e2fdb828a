"""What lvs health set asks for, from its options by name: each is read once, here. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent_common.virtual_server import VirtualServerKey
from cli import health_parse as parse
from cli.check_options import CheckOptions
from cli.health_options import HealthOptions, PolicyOptions

Read = Callable[[Any], Any]


def _as_is(value: Any) -> Any:
    return value


def _octets(option: str) -> Read:
    return lambda text: parse.parse_bytes(text, option)


def _command(option: str) -> Read:
    return lambda text: parse.parse_command(text, option)


_TIMING = ("port", "interval", "rise", "fall", "through_vip", "by_mark", "agent_port")

_WHAT: dict[str, Read] = {
    "method": _as_is,
    "path": _as_is,
    "host": _as_is,
    "header": parse.parse_headers,
    "status": parse.parse_statuses,
    "body": _as_is,
    "tls": _as_is,
    "server_name": _as_is,
    "verify": _as_is,
    "ca_file": _as_is,
    "grpc_service": _as_is,
    "name": _as_is,
    "type": _as_is,
    "answer": parse.parse_answers,
    "tcp": _as_is,
    "payload": _octets("payload"),
    "reply": _octets("reply"),
    "helo": _as_is,
    "command": _command("command"),
}

_POLICY: dict[str, Read] = {
    "start": parse.parse_start,
    "effect": parse.parse_effect,
    "slow_start": _as_is,
    "quorum": _as_is,
    "hysteresis": _as_is,
    "up_command": _command("up_command"),
    "down_command": _command("down_command"),
    "floor": parse.parse_floor,
    "max_changes": _as_is,
}


def read_options(server: VirtualServerKey, given: Mapping[str, Any]) -> HealthOptions:
    """Return what is asked for; an option that is None was not given. Raises InvalidInputError."""
    rs, source = given.get("rs"), given.get("dynamic_weight")
    what = _read(_WHAT, given)
    if given.get("no_reply"):
        what["no_reply"] = None
    policy = _read(_POLICY, given)
    if given.get("sorry") is not None:
        policy["sorry"] = parse.parse_sorry(server, given["sorry"])
    return HealthOptions(
        rs=None if rs is None else parse.parse_rs(server, rs),
        check=CheckOptions(
            kind=given.get("check") or "",
            timing=_read(dict.fromkeys(_TIMING, _as_is), given)
            | _read({"timeout": _as_is}, given, "check_"),  # --timeout is that of an agent's answer, everywhere
            what=what,
        ),
        policy=PolicyOptions(
            fields=policy,
            damping=_read(dict.fromkeys(("falls", "window", "hold"), _as_is), given, "damping_"),
            percent=_read(dict.fromkeys(("min_percent", "max_percent"), _as_is), given),
            source=() if source is None else (parse.parse_dynamic_weight(source),),
        ),
    )


def _read(table: Mapping[str, Read], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the options of a table that were given, read; one that is repeatable and was not given is empty."""
    found = {name: given.get(prefix + name) for name in table}
    return {name: table[name](value) for name, value in found.items() if value not in (None, (), [])}
