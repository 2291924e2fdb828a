"""A check by TCP: passes when a connection is made."""

from __future__ import annotations

from agent_common.check import TcpCheck
from agent_common.check_socket import CheckSocket, over_tcp
from agent_common.checker import Answer, Target

_CONNECTED = Answer(passed=True, detail="connected")


async def check_tcp(kind: TcpCheck, target: Target, seconds: float) -> Answer:
    """Connect, and reset the connection."""
    return await over_tcp(target, seconds, _talk)


async def _talk(connection: CheckSocket) -> Answer:
    return _CONNECTED
