"""A removal of a VIP that is taken back: the director asks the wire before it adds the address again, and tells it."""

from __future__ import annotations

import threading
import uuid

import pytest

from agent_common.errors import LvsError, Reason
from agent_common.vip import OperatorHolder
from agent_common.virtual_server import parse_address
from cli import operations
from lab.site import VIP, VIP6
from tests.lab.operator import Operator

ONE_FAMILY = True

VIPS = {4: VIP, 6: VIP6}
HOLDER = OperatorHolder(name="test")


def removed(operator: Operator, family: int) -> str:
    """Add the VIP and remove it again; return the name of the removal."""
    address = parse_address(VIPS[family], "vip")
    name = str(uuid.uuid4())
    operator.ask(lambda client: client.apply(operations.create_vip(address, HOLDER), ""))
    operator.ask(lambda client: client.apply(operations.delete_vip(address, HOLDER), name))
    return name


def test_the_vip_is_announced_again(unchanged: Operator, family: int) -> None:
    name = removed(unchanged, family)
    announcement = f"arp and arp src host {VIP}" if family == 4 else f"icmp6[0] == 136 and src host {VIP6}"
    heard: list[str] = []
    argv = ("timeout", "--preserve-status", "8", "tcpdump", "-Unli", "eth0", "-c", "1", announcement)
    sniffing = threading.Thread(target=lambda: heard.append(unchanged.site.client.out(*argv)))
    sniffing.start()
    while "tcpdump" not in unchanged.site.client.out("ps", "-eo", "comm"):
        pass
    answer = unchanged.ask(lambda client: client.revert(name))
    assert list(answer.details) == [f"put back VIP {VIPS[family]}"]
    sniffing.join()
    assert VIPS[family] in heard[0], heard
    unchanged.ask(lambda client: client.apply(operations.delete_vip(parse_address(VIPS[family], "vip"), HOLDER), ""))


def test_a_vip_that_another_host_took_meanwhile_is_not_put_back(unchanged: Operator, family: int) -> None:
    """Two hosts would answer for it; whoever took it back is told which host has it."""
    name = removed(unchanged, family)
    intruder = unchanged.site.intruder
    assert intruder is not None
    place = (f"{VIPS[family]}/{32 if family == 4 else 128}", "dev", "eth0")
    intruder.run("ip", "address", "add", *place, *(["nodad"] if family == 6 else []))
    try:
        with pytest.raises(LvsError, match="answers for it") as caught:
            unchanged.ask(lambda client: client.revert(name))
        assert caught.value.reason is Reason.VIP_TAKEN
    finally:
        intruder.run("ip", "address", "del", *place)
