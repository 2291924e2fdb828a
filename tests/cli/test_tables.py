"""What lvs status says of a real server in a few words."""

from __future__ import annotations

import pytest
from lvsagent.v1 import arp_service_pb2, host_service_pb2, vip_pb2

from cli.reading import RealServerState
from cli.tables import real_server_word

VIP, OTHER, VIP6 = "192.168.0.200", "192.168.0.201", "2001:db8::200"


@pytest.mark.parametrize(
    ("vips", "held", "present", "silent", "word"),
    [
        ([VIP], [], [], True, "HAS NO VIP"),
        ([VIP], [VIP], [VIP], True, "ready"),
        ([VIP], [], [VIP], True, "ready"),
        ([VIP], [VIP], [], True, f"VIP {VIP} IS GONE"),
        ([VIP], ["192.168.0.201"], ["192.168.0.201"], True, "HAS NO VIP"),
        ([VIP], [VIP], [VIP], False, "ANSWERS ARP on eth0"),
        ([VIP6], [VIP6], [VIP6], False, "ready"),
        ([], [VIP], [VIP], False, "ANSWERS ARP on eth0"),
        ([], [], [], False, "ready"),
        ([VIP, OTHER], [VIP, OTHER], [VIP, OTHER], True, "ready"),
        ([VIP, OTHER], [VIP], [VIP], True, f"HAS NO VIP {OTHER}"),
        ([VIP, OTHER], [VIP, OTHER], [VIP], True, f"VIP {OTHER} IS GONE"),
    ],
)
def test_a_real_server_that_is_not_ready_is_named_for_what_is_missing(
    vips: list[str], held: list[str], present: list[str], silent: bool, word: str
) -> None:
    """Of this VIP, not of another; one that somebody put there by hand counts. A mark has several, or none is known."""
    host = host_service_pb2.GetHostResponse()
    for address in present:
        host.addresses.add(address=address, prefix_length=32, device="lo")
    arp = arp_service_pb2.GetArpResponse()
    arp.interfaces.add(interface="eth0", silent=silent)
    holds = [vip_pb2.Vip(address=address, present=address in present) for address in held]
    assert real_server_word(RealServerState(host=host, vips=holds, arp=arp, drift=[]), vips) == word
