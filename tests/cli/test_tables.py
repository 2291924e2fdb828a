"""What lvs status says of a real server in a few words."""

from __future__ import annotations

import pytest
from lvsagent.v1 import arp_service_pb2, host_service_pb2, vip_pb2

from cli.reading import RealServerState
from cli.tables import real_server_word

VIP = "192.168.0.200"


@pytest.mark.parametrize(
    ("vips", "silent", "word"),
    [
        ([], True, "no VIP on lo"),
        ([vip_pb2.Vip(address=VIP, present=True)], True, "ready"),
        ([vip_pb2.Vip(address=VIP, present=False)], True, f"VIP {VIP} IS GONE"),
        ([vip_pb2.Vip(address=VIP, present=True)], False, "ANSWERS ARP on eth0"),
        ([vip_pb2.Vip(address="2001:db8::200", present=True)], False, "ready"),
    ],
)
def test_a_real_server_that_is_not_ready_is_named_for_what_is_missing(
    vips: list[vip_pb2.Vip], silent: bool, word: str
) -> None:
    """A held VIP that is gone, the only one too, is not taken for a real server that holds none."""
    arp = arp_service_pb2.GetArpResponse()
    arp.interfaces.add(interface="eth0", silent=silent)
    state = RealServerState(host=host_service_pb2.GetHostResponse(), vips=vips, arp=arp)
    assert real_server_word(state) == word
