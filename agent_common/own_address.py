"""Waits at boot for the addresses that an agent listens on: it starts before the network is up."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Iterable

from agent_common.endpoint import Endpoint

WAIT_SECONDS = 30.0
"""A network that needs longer finds the agent started anew; what waits for the network must not wait for ever."""

_PAUSE_SECONDS = 0.2

_log = logging.getLogger(__name__)


async def wait_for_addresses(endpoints: Iterable[Endpoint], seconds: float = WAIT_SECONDS) -> None:
    """Return when every address can be bound, or after so long: whoever binds then says what is wrong."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for endpoint in endpoints:
        if not _is_missing(endpoint):
            continue
        _log.info("waits for the address of %s", endpoint)
        while _is_missing(endpoint) and loop.time() < until:  # noqa: ASYNC110  # one question is enough at a boot
            await asyncio.sleep(_PAUSE_SECONDS)


def _is_missing(endpoint: Endpoint) -> bool:
    """Whether no interface has the address, or duplicate address detection has not ended; a name is not looked up."""
    try:
        address = ipaddress.ip_address(endpoint.host)
    except ValueError:
        return False
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((endpoint.host, 0))
        except OSError as error:
            return error.errno == errno.EADDRNOTAVAIL
    return False
