"""Settings of the command line: flags, environment, file, defaults; what of them makes the site. No typer."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent_common.endpoint import tls_files
from agent_common.errors import InvalidInputError
from agent_common.settings import Value, load, named_file
from agent_common.vip import parse_vip_mode
from cli.site import Site, parse_directors, parse_rs_agents

LOCAL_SOCKETS = [Path("/run/lvs-director") / name for name in ("api.sock", "operator.sock", "viewer.sock")]
"""Those of this host's director agent, the one that allows most first."""

DEFAULTS: dict[str, Value] = {
    "director": (),
    "rs_agent": (),
    "insecure": False,
    "tls_ca": "",
    "tls_cert": "",
    "tls_key": "",
    "timeout": 10.0,
    "lock_timeout": 10.0,
    "output": "table",
    "vip_mode": "",
    "pki": "/etc/lvs/pki",
}


def load_settings(flags: Mapping[str, Value | None], config: Path | None) -> dict[str, Value]:
    """Return the settings; the default files are the user's, then /etc/lvs/cli.toml. Raises InvalidInputError."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
    values = load(
        DEFAULTS,
        flags=flags,
        environment=os.environ,
        file=named_file(config, os.environ),
        default_files=[home / "lvs" / "cli.toml", Path("/etc/lvs/cli.toml")],
    )
    if values["output"] not in ("table", "json"):
        raise InvalidInputError("output", f"output: {values['output']!r} is unknown; use table or json")
    return values


def output_of(arguments: Sequence[str]) -> str:
    """Return how data is to be printed, from a command line that may be wrong otherwise."""
    for word, following in itertools.pairwise((*arguments, "")):
        if word == "--output" or word.startswith("--output="):
            return word.partition("=")[2] or following
    with contextlib.suppress(InvalidInputError):
        return str(load_settings({}, None)["output"])
    return "table"


def make_site(values: Mapping[str, Value], *, needs_director: bool = True) -> Site:
    """Return the site that the settings name; without a director the local agent's socket, if it is there."""
    texts = _texts(values["director"]) or _local_agent(needed=needs_director)
    for key in ("timeout", "lock_timeout"):
        if not 0 < _number(values[key]) <= 3600:
            raise InvalidInputError(key, f"{key}: {values[key]} s is out of range (above 0, to 3600 s)")
    return Site(
        directors=parse_directors(texts),
        rs_agents=parse_rs_agents(_texts(values["rs_agent"])),
        tls=tls_files(str(values["tls_ca"]), str(values["tls_cert"]), str(values["tls_key"])),
        insecure=bool(values["insecure"]),
        timeout=_number(values["timeout"]),
        lock_timeout=_number(values["lock_timeout"]),
        vip_mode=parse_vip_mode(str(values["vip_mode"]) or None),
        local_name=socket.gethostname(),
    )


def _local_agent(*, needed: bool) -> tuple[str, ...]:
    """Return the socket of this host's director agent that this user may open: which one says what they may do."""
    for path in LOCAL_SOCKETS:
        if os.access(path, os.W_OK):
            return (f"unix:{path}",)
    if not needed:
        return ()
    why = "no agent runs on this host"
    if any(_is_there(path) for path in LOCAL_SOCKETS):
        why = "this user may not use the agent of this host (try sudo, or ask to be in one of its groups)"
    raise InvalidInputError("director", f"director: none is given, and {why}; use --director HOST[:PORT]")


def _is_there(path: Path) -> bool:
    """Whether something is there, or this user may not know."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _texts(value: Value) -> tuple[str, ...]:
    assert isinstance(value, tuple)  # noqa: S101  # load keeps the default's type
    return value


def _number(value: Value) -> float:
    assert isinstance(value, float)  # noqa: S101  # load keeps the default's type
    return value
