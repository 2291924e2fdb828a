"""A check by UDP: passes when no ICMP error comes back, or when the reply does that is expected."""

from __future__ import annotations

from agent_common.check import UdpCheck
from agent_common.check_socket import CheckSocket, LateError, over_udp, shown
from agent_common.checker import Answer, Target


async def check_udp(kind: UdpCheck, target: Target, seconds: float) -> Answer:
    """Send a datagram, and wait; without an expected reply silence passes, after all of the time."""

    async def talk(connection: CheckSocket) -> Answer:
        connection.awaits = "reply"
        await connection.send(kind.payload)
        try:
            reply = await connection.receive()
        except LateError:
            if kind.reply is not None:
                raise
            return Answer(passed=True, detail=f"no ICMP error within {seconds:g} s")
        return _judge(kind.reply or b"", reply)

    return await over_udp(target, seconds, talk)


def _judge(expected: bytes, reply: bytes) -> Answer:
    if reply.startswith(expected):
        return Answer(passed=True, detail=f"reply of {len(reply)} octets")
    return Answer(passed=False, detail=f"the reply begins otherwise: {shown(reply, 40)}")
