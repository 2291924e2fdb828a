"""Settings of both agents: command line, environment, file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_common.deny_list import DenyList
from agent_common.endpoint import Endpoint, TlsFiles, check_plaintext, parse_endpoint, tls_files
from agent_common.errors import InvalidInputError, LvsError
from agent_common.failpoint import Failpoints
from agent_common.identity import Role, check_name
from agent_common.listen import parse_groups
from agent_common.settings import Value, load, named_file
from agent_common.version import VERSION
from agent_common.virtual_server import FirewallMark, parse_key, parse_unicast

DIRECTOR = "lvs-director"
"""The program that has settings beside those of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Where an agent listens and keeps its state; no TLS files mean plaintext. enforce: repair drift without asking.

    groups may open the local sockets of their roles. operator_vips: operators who may change some VIPs only.
    script_dir: where programs lie that checks may run; a director's.
    """

    listen: tuple[Endpoint, ...]
    state_dir: Path
    tls: TlsFiles | None
    insecure: bool
    groups: Mapping[Role, str] = field(default_factory=dict)
    deny_list: DenyList = field(default_factory=lambda: DenyList(None))
    operator_vips: Mapping[str, frozenset[str]] = field(default_factory=dict)
    enforce: bool = False
    script_dir: Path | None = None
    failpoints: bool = False

    def failpoints_of(self, agent: str) -> Failpoints:
        """Return the failpoints of an agent: none, unless it was started with --failpoints."""
        return Failpoints(agent, self.state_dir / "failpoint" if self.failpoints else None)


def read_settings(program: str, default_port: int, arguments: Sequence[str]) -> AgentSettings:
    """Read command line, environment and file of an agent; ends the program with status 2 on bad input."""
    parser = make_parser(program, default_port)
    given = parser.parse_args(arguments)
    short = program.removeprefix("lvs-")
    defaults: dict[str, Value] = {
        "listen": (f"127.0.0.1:{default_port}", f"unix:/run/{program}/api.sock"),
        "state_dir": f"/var/lib/{program}",
        "insecure": False,
        "enforce": False,
        "tls_ca": "",
        "tls_cert": "",
        "tls_key": "",
        "deny_serials": "",
        "socket_group": (),
        "operator_vips": (),
    }
    if program == DIRECTOR:
        defaults["script_dir"] = ""
    flags = {key: getattr(given, key) for key in defaults}
    for key in ("listen", "socket_group", "operator_vips"):
        flags[key] = tuple(flags[key]) if flags[key] else None
    try:
        values = load(
            defaults,
            flags=flags,
            environment=os.environ,
            file=named_file(given.config, os.environ),
            default_files=[Path(f"/etc/lvs/{short}.toml")],
        )
        return replace(_check(values, default_port), failpoints=given.failpoints)
    except LvsError as error:
        parser.exit(2, f"{program}: {error.message}\n")


def make_parser(program: str, default_port: int) -> argparse.ArgumentParser:
    """Return the command line of an agent."""
    parser = argparse.ArgumentParser(prog=program, description=f"Agent of lvs-agents; default port {default_port}.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (TOML); keys are the flags' names")
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDR:PORT|unix:PATH",
        help="repeatable; default: loopback and the unix socket",
    )
    parser.add_argument("--state-dir", metavar="DIR", help=f"default: /var/lib/{program}")
    parser.add_argument(
        "--insecure", action="store_true", default=None, help="listen without TLS on other addresses too"
    )
    parser.add_argument(
        "--enforce", action="store_true", default=None, help="repair without being asked what was changed by hand"
    )
    parser.add_argument("--tls-ca", metavar="FILE", help="CA of the clients (PEM)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate of this agent (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="its key (PEM)")
    parser.add_argument(
        "--deny-serials", metavar="FILE", help="serials of certificates not to accept, one in hex a line"
    )
    parser.add_argument(
        "--socket-group",
        action="append",
        metavar="ROLE=GROUP",
        help="repeatable: who may open the unix socket of viewer, operator or admin; default: this user alone",
    )
    parser.add_argument(
        "--operator-vips",
        action="append",
        metavar="NAME=VIP[,VIP]",
        help="repeatable: the operator of this name may change these VIPs only (addresses, or fwmark/N)",
    )
    if program == DIRECTOR:
        parser.add_argument(
            "--script-dir", metavar="DIR", help="folder whose programs health checks may run; default: none"
        )
    parser.add_argument("--failpoints", action="store_true", help="for tests: die where DIR/failpoint says")
    parser.add_argument("--version", action="version", version=f"{program} {VERSION}")
    return parser


def _check(values: dict[str, Value], default_port: int) -> AgentSettings:
    endpoints = tuple(parse_endpoint(text, "listen", default_port) for text in _texts(values, "listen"))
    tls = tls_files(str(values["tls_ca"]), str(values["tls_cert"]), str(values["tls_key"]))
    insecure = bool(values["insecure"])
    if tls is None:
        check_plaintext(list(endpoints), "listen", insecure=insecure)
    return AgentSettings(
        listen=endpoints,
        state_dir=Path(str(values["state_dir"])),
        tls=tls,
        insecure=insecure,
        groups=parse_groups(_texts(values, "socket_group"), "socket_group"),
        deny_list=DenyList(Path(str(values["deny_serials"])) if values["deny_serials"] else None),
        operator_vips=_operator_vips(_texts(values, "operator_vips"), "operator_vips"),
        enforce=bool(values["enforce"]),
        script_dir=_script_dir(str(values.get("script_dir", ""))),
    )


def _script_dir(text: str) -> Path | None:
    """Return the folder, if one is set; whether it is there is asked whenever a program of it is to run."""
    if text and not text.startswith("/"):
        raise InvalidInputError("script_dir", f"script_dir: {text!r} is not a whole path")
    return Path(text) if text else None


def _texts(values: Mapping[str, Value], key: str) -> tuple[str, ...]:
    texts = values[key]
    assert isinstance(texts, tuple)  # noqa: S101  # load keeps the default's type
    return texts


def _operator_vips(texts: Sequence[str], field_name: str) -> dict[str, frozenset[str]]:
    """Read NAME=VIP[,VIP] texts; raises InvalidInputError."""
    found: dict[str, frozenset[str]] = {}
    for text in texts:
        name, equals, vips = text.partition("=")
        if not equals:
            raise InvalidInputError(field_name, f"{field_name}: cannot read {text!r}; write NAME=VIP[,VIP]")
        if check_name(name, field_name) in found:
            raise InvalidInputError(field_name, f"{field_name}: {name} is given twice")
        found[name] = frozenset(_vip(each.strip(), field_name) for each in vips.split(",") if each.strip())
    return found


def _vip(text: str, field_name: str) -> str:
    """Return a VIP, or a firewall mark, as roles.touched writes it."""
    if text.startswith("fwmark"):
        key = parse_key(text, field_name)
        assert isinstance(key, FirewallMark)  # noqa: S101  # the text says so
        return str(key)
    return str(parse_unicast(text, field_name))
