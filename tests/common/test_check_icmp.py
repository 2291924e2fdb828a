"""Checks by ICMP: echoes of this host, and what is none."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import sys

import pytest

from agent_common.check import IcmpCheck
from agent_common.check_icmp import Echo, check_icmp
from agent_common.checker import Answer
from tests.common.checking import ask, is_root, target

ICMP = IcmpCheck()
needs_raw = pytest.mark.skipif(not is_root(), reason="needs root: a raw socket, or a network namespace")


async def ping(address: str, seconds: float = 5.0) -> Answer:
    return await ask(ICMP, target(0, address), seconds, check_icmp)


@needs_raw
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1"])
async def test_an_address_of_this_host_answers(address: str) -> None:
    """Many at a time, each its own."""
    found = await asyncio.gather(*(check_icmp(ICMP, target(0, address), 5.0) for _ in range(20)))
    assert found == [Answer(passed=True, detail="echo")] * 20
    assert (await ping(address)).passed


IN_A_NAMESPACE = """
import asyncio, ipaddress, pathlib, socket, subprocess, sys
from agent_common.check import IcmpCheck
from agent_common import check_icmp
from tests.common.checking import target
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
ranges = pathlib.Path("/proc/sys/net/ipv4/ping_group_range")
ranges.write_text(sys.argv[1])
silent = pathlib.Path("/proc/sys/net/ipv4/icmp_echo_ignore_all")
async def main():
    for address in ("127.0.0.1", "::1"):
        print(await check_icmp.check_icmp(IcmpCheck(), target(0, address), 5.0))
    with check_icmp._open(ipaddress.ip_address("127.0.0.1"), 1) as opened:
        print(socket.SocketKind(opened.socket.type).name)
    silent.write_text("1")
    print(await check_icmp.check_icmp(IcmpCheck(), target(0, "127.0.0.1"), 0.1))
    print(await check_icmp.check_icmp(IcmpCheck(), target(0, "192.0.2.1"), 0.1))
asyncio.run(main())
"""


@needs_raw
@pytest.mark.parametrize(("groups", "kind"), [("0 0", "SOCK_DGRAM"), ("1 0", "SOCK_RAW")])
def test_a_ping_socket_is_used_where_it_is_allowed_else_a_raw_one(groups: str, kind: str) -> None:
    """Both find an answer, silence, and that there is no way; in a network namespace of their own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", IN_A_NAMESPACE, groups], capture_output=True, text=True, check=False
    )
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    passed = "Answer(passed=True, detail='echo', percent=None)"
    late = "Answer(passed=False, detail='no echo within 0.1 s', percent=None)"
    nowhere = "Answer(passed=False, detail='network is unreachable', percent=None)"
    assert done.stdout.splitlines() == [passed, passed, kind, late, nowhere], done.stderr


@pytest.mark.parametrize("version", [4, 6])
def test_only_the_echo_of_the_question_is_an_answer(version: int) -> None:
    """Another identifier, sequence, payload, type or code is none, nor is what is too short."""
    echo = Echo(version=version, identifier=7, payload=b"payload!")
    header = b"\x45" + bytes(19) if version == 4 else b""
    reply = {4: 0, 6: 129}[version]

    def message(
        kind: int = reply, code: int = 0, identifier: int = 7, sequence: int = 1, data: bytes = b"payload!"
    ) -> bytes:
        return struct.pack("!BBHHH", kind, code, 0, identifier, sequence) + data

    assert echo.is_answered_by(header + message(), is_raw=True)
    assert echo.is_answered_by(message(identifier=9), is_raw=False)
    assert not echo.is_answered_by(header + message(identifier=9), is_raw=True)
    for wrong in (message(kind=3), message(code=1), message(sequence=2), message(data=b""), b"", b"\x00" * 7):
        assert not echo.is_answered_by(header + wrong, is_raw=True)
        assert not echo.is_answered_by(wrong, is_raw=False)
    assert not echo.is_answered_by(b"", is_raw=True)
    assert not echo.is_answered_by(b"\x4f", is_raw=True)


def test_a_request_has_the_checksum_that_the_kernel_wants() -> None:
    """RFC 1071: with it the sum of all is all ones."""
    request = Echo(version=4, identifier=0xABCD, payload=b"\xff\xfe" * 16).request()
    total = sum(struct.unpack(f"!{len(request) // 2}H", request))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
