"""Host routes as /proc/net/route writes them; tests/lab/test_addresses.py compares with the kernel's own."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent_common.errors import RefusedError
from agent_common.procfs_route import has_host_route

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
lo\tC800A8C0\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
lo\tC900A8C0\t00000000\t0205\t0\t0\t0\tFFFFFFFF\t0\t0\t0
eth0\tCA00A8C0\t0100A8C0\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0
eth0\tCC00A8C0\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0
"""


@pytest.mark.parametrize(
    ("address", "device", "there"),
    [
        ("192.168.0.200", "lo", True),
        ("192.168.0.200", "eth0", False),
        ("192.168.0.200", "l", False),
        ("192.168.0.201", "lo", False),  # unreachable
        ("192.168.0.202", "eth0", False),  # through a gateway
        ("192.168.0.204", "eth0", False),  # a subnet that begins with the address
        ("192.168.0.199", "lo", False),
    ],
)
def test_only_an_on_link_route_to_the_one_address_counts(
    tmp_path: Path, address: str, device: str, there: bool
) -> None:
    file = tmp_path / "route"
    file.write_text(ROUTES)
    assert has_host_route(IPv4Address(address), device, file) is there


def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot look for the route to"):
        has_host_route(IPv4Address("192.168.0.200"), "lo", tmp_path)
