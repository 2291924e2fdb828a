"""What both agents have in common: log, servers, health, reflection, and a graceful end."""

from __future__ import annotations

import asyncio
import datetime
import faulthandler
import gc
import logging
import os
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from agent_common import limits
from agent_common.access import Access, Certified, Everybody, Remembered
from agent_common.agent_settings import AgentSettings
from agent_common.audit import Recorder
from agent_common.endpoint import Endpoint
from agent_common.errors import LvsError
from agent_common.handlers import Handlers, Service
from agent_common.identity import Kind, Role
from agent_common.listen import Door, local_doors
from agent_common.notify import Notifier
from agent_common.own_address import wait_for_addresses
from agent_common.server_certificates import ServerCertificates
from agent_common.state import State
from agent_common.version import VERSION

_HEALTH_SECONDS = 5.0
_EXPIRY_SECONDS = 86400.0

Beside = Callable[[], Coroutine[None, None, None]]
"""What goes on beside the server until it is cancelled."""

_log = logging.getLogger(__name__)


def set_up_log(program: str) -> None:
    """Log to stderr: the journal adds the time under systemd, we add it elsewhere."""
    stamp = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"{stamp}{program} %(levelname)s %(message)s")


async def serve(
    settings: AgentSettings,
    kind: Kind,
    services: Sequence[Service],
    is_serving: Callable[[], Awaitable[bool]],
    beside: Sequence[Beside],
    remembered: Remembered | None = None,
    record: Recorder | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what runs and return. The kernel stays as it is.

    beside goes on for as long as it serves. remembered tells what stands behind the names in requests; record is told
    of each change.

    is_serving is asked every few seconds; while it says no, health says NOT_SERVING, and calls are answered anyway.
    It must ask the worker thread: that it is answered at all feeds the watchdog.
    """
    handlers = Handlers(record)
    names = [service.descriptor.full_name for service in services]
    servicer = health.aio.HealthServicer()
    await _set_health(servicer, names, serving=await is_serving())
    notifier = Notifier.of(os.environ)
    if notifier.address:  # else somebody waits for the error
        notifier.tell("STATUS=waits for the addresses that it listens on")
        await wait_for_addresses(settings.listen)
    certificates = ServerCertificates(settings.tls, kind) if settings.tls else None
    doors = list(_doors(settings, certificates))
    servers = [_server_at(door, handlers, services, servicer, remembered) for door in doors]
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gc.collect()
    gc.freeze()  # what is imported stays: a large table would have it looked through again and again
    for server in servers:
        await server.start()
    notifier.tell("READY=1")
    _say_where([endpoint for door in doors for endpoint in door.endpoints], has_tls=certificates is not None)
    following = [
        asyncio.ensure_future(_follow_health(servicer, names, is_serving)),
        asyncio.ensure_future(notifier.follow(is_serving)),
        *(asyncio.ensure_future(each()) for each in beside),
    ]
    if certificates is not None:
        following.append(asyncio.ensure_future(_follow_expiry(certificates)))
    await stopped.wait()
    notifier.tell("STOPPING=1", "STATUS=finishes what it has begun; the kernel stays as it is")
    for each in following:
        each.cancel()
    _log.info("stopping: the kernel stays as it is")
    await asyncio.gather(*(server.stop(grace=5) for server in servers))
    await asyncio.gather(*following, return_exceptions=True)
    await handlers.finish()


def _server_at(
    door: Door,
    handlers: Handlers,
    services: Sequence[Service],
    servicer: health.aio.HealthServicer,
    remembered: Remembered | None,
) -> grpc.aio.Server:
    """Return a server of everything for those who come in at a door."""
    server = handlers.make_server(Access(door.callers, remembered), services, limits.OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [service.descriptor.full_name for service in services]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    door.bind(server)
    return server


def _doors(settings: AgentSettings, certificates: ServerCertificates | None) -> Iterator[Door]:
    """Return the ways in: a unix socket for each role, and the network, where certificates tell who comes."""
    yield from local_doors(settings.listen, settings.groups)
    network = tuple(each for each in settings.listen if not each.path)
    if not network:
        return
    if certificates is None:
        yield Door(endpoints=network, callers=Everybody(name="anybody, without TLS", role=Role.ADMIN))
        return
    callers = Certified(own=certificates.identity, deny_list=settings.deny_list, operator_vips=settings.operator_vips)
    yield Door(endpoints=network, callers=callers, credentials=certificates.credentials())


def _say_where(endpoints: Sequence[Endpoint], *, has_tls: bool) -> None:
    for endpoint in endpoints:
        safe = has_tls or endpoint.is_local
        danger = "" if safe else " WITHOUT TLS: anyone who reaches it is obeyed"
        _log.log(logging.INFO if safe else logging.WARNING, "version %s listens on %s%s", VERSION, endpoint, danger)


async def _follow_expiry(certificates: ServerCertificates) -> None:
    """Say once a day that the certificate must be renewed, while it must."""
    while True:
        if said := certificates.expiry(datetime.datetime.now(datetime.UTC)):
            _log.warning("%s", said)
        await asyncio.sleep(_EXPIRY_SECONDS)


async def _follow_health(
    servicer: health.aio.HealthServicer, names: Sequence[str], is_serving: Callable[[], Awaitable[bool]]
) -> None:
    while True:
        await asyncio.sleep(_HEALTH_SECONDS)
        try:
            serving = await is_serving()
        except Exception as error:  # health must go on being told
            _log.warning("cannot tell whether it serves", exc_info=error)
            serving = False
        await _set_health(servicer, names, serving=serving)


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
    if not isinstance(body, dict) or not isinstance(body.get("id"), str):
        state.distrust("agent id cannot be read")
        return str(uuid.uuid4())
    return str(body["id"])


def run_agent(program: str, running: Coroutine[None, None, None]) -> None:
    """Run an agent to its end; what forbids it to start is one line and status 1."""
    set_up_log(program)
    faulthandler.enable()  # where every thread was when a watchdog ended it, with SIGABRT, is in the log
    Notifier.of(os.environ).tell("STATUS=restores what was committed")
    try:
        asyncio.run(running)
    except LvsError as error:
        sys.exit(f"{program}: {error.message}")
