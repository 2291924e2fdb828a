"""What both agents have in common: command line, settings, log, server, health, reflection, and a graceful end."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from agent_common import listen
from agent_common.endpoint import Endpoint, TlsFiles, check_plaintext, parse_endpoint, tls_files
from agent_common.errors import LvsError
from agent_common.failpoint import Failpoints
from agent_common.handlers import Handlers, Service
from agent_common.settings import Value, load, named_file
from agent_common.state import State
from agent_common.version import VERSION

_HEALTH_SECONDS = 5.0

Beside = Callable[[], Coroutine[None, None, None]]
"""What goes on beside the server until it is cancelled."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Where an agent listens and keeps its state; no TLS files mean plaintext. enforce: repair drift without asking."""

    listen: tuple[Endpoint, ...]
    state_dir: Path
    tls: TlsFiles | None
    insecure: bool
    enforce: bool = False
    failpoints: bool = False

    def failpoints_of(self, agent: str) -> Failpoints:
        """Return the failpoints of an agent: none, unless it was started with --failpoints."""
        return Failpoints(agent, self.state_dir / "failpoint" if self.failpoints else None)


def read_settings(program: str, default_port: int, arguments: Sequence[str]) -> AgentSettings:
    """Read command line, environment and file of an agent; ends the program with status 2 on bad input."""
    parser = _parser(program, default_port)
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
    }
    flags = {key: getattr(given, key) for key in defaults}
    flags["listen"] = tuple(given.listen) if given.listen else None
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


def _parser(program: str, default_port: int) -> argparse.ArgumentParser:
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
    parser.add_argument("--failpoints", action="store_true", help="for tests: die where DIR/failpoint says")
    parser.add_argument("--version", action="version", version=f"{program} {VERSION}")
    return parser


def _check(values: dict[str, Value], default_port: int) -> AgentSettings:
    texts = values["listen"]
    assert isinstance(texts, tuple)  # noqa: S101  # load keeps the default's type
    endpoints = tuple(parse_endpoint(text, "listen", default_port) for text in texts)
    tls = tls_files(str(values["tls_ca"]), str(values["tls_cert"]), str(values["tls_key"]))
    insecure = bool(values["insecure"])
    if tls is None:
        check_plaintext(list(endpoints), "listen", insecure=insecure)
    return AgentSettings(
        listen=endpoints,
        state_dir=Path(str(values["state_dir"])),
        tls=tls,
        insecure=insecure,
        enforce=bool(values["enforce"]),
    )


def set_up_log(program: str) -> None:
    """Log to stderr: the journal adds the time under systemd, we add it elsewhere."""
    stamp = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"{stamp}{program} %(levelname)s %(message)s")


async def serve(
    settings: AgentSettings,
    services: Sequence[Service],
    is_serving: Callable[[], Awaitable[bool]],
    beside: Sequence[Beside],
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what runs and return. The kernel stays as it is.

    beside goes on for as long as it serves.

    is_serving is asked every few seconds; while it says no, health says NOT_SERVING, and calls are answered anyway.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = Handlers()
    handlers.register(server, services)
    names = [service.descriptor.full_name for service in services]
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await _set_health(servicer, names, serving=await is_serving())
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    listen.add_ports(server, list(settings.listen), settings.tls)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gc.collect()
    gc.freeze()  # what is imported stays: a large table would have it looked through again and again
    await server.start()
    for endpoint in settings.listen:
        safe = settings.tls is not None or endpoint.is_local
        danger = "" if safe else " WITHOUT TLS: anyone who reaches it is obeyed"
        _log.log(logging.INFO if safe else logging.WARNING, "version %s listens on %s%s", VERSION, endpoint, danger)
    following = [
        asyncio.ensure_future(_follow_health(servicer, names, is_serving)),
        *(asyncio.ensure_future(each()) for each in beside),
    ]
    await stopped.wait()
    for each in following:
        each.cancel()
    _log.info("stopping: the kernel stays as it is")
    await server.stop(grace=5)
    await asyncio.gather(*following, return_exceptions=True)
    await handlers.finish()


async def _follow_health(
    servicer: health.aio.HealthServicer, names: Sequence[str], is_serving: Callable[[], Awaitable[bool]]
) -> None:
    while True:
        await asyncio.sleep(_HEALTH_SECONDS)
        await _set_health(servicer, names, serving=await is_serving())


async def _set_health(servicer: health.aio.HealthServicer, names: Sequence[str], *, serving: bool) -> None:
    codes = health_pb2.HealthCheckResponse
    for name in ("", *names):
        await servicer.set(name, codes.SERVING if serving else codes.NOT_SERVING)


def agent_id(state: State) -> str:
    """Return the identity of this agent: made at its first start, and kept in its state.

    One whose state is corrupt does not know which it was, and is none that others have heard of.
    """
    if state.damage:
        return str(uuid.uuid4())
    body = state.get("agent", "id")
    if body is None:
        body = {"id": str(uuid.uuid4())}
        state.put("agent", "id", body)
    return str(body["id"])


def run_agent(program: str, running: Coroutine[None, None, None]) -> None:
    """Run an agent to its end; what forbids it to start is one line and status 1."""
    set_up_log(program)
    try:
        asyncio.run(running)
    except LvsError as error:
        sys.exit(f"{program}: {error.message}")
