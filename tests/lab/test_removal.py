"""remove-backend gives every host back exactly as it was: compared as text, by means that are not ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.host import Host
from lab.site import VIP, VIP6
from tests.lab.operator import PORT, Operator, told

ONE_FAMILY = True

OTHER_VIP = "192.168.0.201"

FRESH_SITE = True
"""IPVS remembers the connections of a destination that is gone, and a drain waits for them when it is there again."""


def sysctl(host: Host, name: str, value: int | None = None) -> int:
    """Read or set a sysctl below /proc/sys/net/ipv4/conf by hand."""
    path = f"/proc/sys/net/ipv4/conf/{name}"
    if value is not None:
        host.run("sh", "-c", f"echo {value} > {path}")
    return int(host.out("cat", path))


@pytest.fixture
def odd_originals(operator: Operator) -> Iterator[Operator]:
    """Real servers whose ARP sysctls were not the default before we came."""
    for rs in operator.site.real_servers:
        sysctl(rs, "all/arp_ignore", 2)
        sysctl(rs, "lo/arp_announce", 1)
    yield operator
    for rs in operator.site.real_servers:
        sysctl(rs, "all/arp_ignore", 0)
        sysctl(rs, "lo/arp_announce", 0)


def test_add_and_remove_leave_no_trace(odd_originals: Operator, family: int) -> None:
    """Both backends added and removed with --prune: addresses, routes, sysctls, IPVS table and links are as before."""
    operator = odd_originals
    before = operator.snapshots()
    vip = operator.vip(family)
    operator.lvs("add-backend", "--vip", vip, "--rs", operator.rs(family)[0], "--rs", operator.rs(family)[1])
    assert operator.differences(before)
    operator.lvs("remove-backend", "--vip", vip, "--rs", operator.rs(family)[0])
    operator.lvs("remove-backend", "--vip", vip, "--rs", operator.rs(family)[1], "--prune")
    assert operator.differences(before) == ""


def test_of_two_ports_on_one_vip_the_other_goes_on_serving(unchanged: Operator, family: int) -> None:
    """The VIP is held by two virtual servers: it stays until both have gone."""
    operator = unchanged
    rs, first, second = operator.rs(family)[0], operator.vip(family), operator.vip(family, PORT + 1)
    server = operator.site.serve_http(operator.site.real_servers[0], PORT + 1, address="::")
    assert operator.add(first, [rs]).status == 0
    assert operator.add(second, [rs]).status == 0
    assert operator.remove(first, [rs], prune=True, drain_timeout=None).status == 0
    assert operator.curl(second) == "rs1"
    assert operator.curl(first) == ""
    assert operator.remove(second, [rs], prune=True, drain_timeout=None).status == 0
    server.stop()


def test_of_two_vips_the_other_stays_silent(unchanged: Operator) -> None:
    """Two VIPs share the ARP sysctls: with the first gone, the real server still does not answer for the second."""
    operator = unchanged
    rs = operator.rs(4)[0]
    assert operator.add(operator.vip(4), [rs]).status == 0
    assert operator.add(f"{OTHER_VIP}:{PORT}", [rs]).status == 0
    assert operator.remove(operator.vip(4), [rs], prune=True, drain_timeout=None).status == 0
    assert operator.curl(f"{OTHER_VIP}:{PORT}") == "rs1"
    answers = operator.site.client.run("arping", "-c", "2", "-w", "3", "-I", "eth0", OTHER_VIP, check=False).stdout
    assert operator.site.real_servers[0].mac.lower() not in answers.lower()
    assert operator.remove(f"{OTHER_VIP}:{PORT}", [rs], prune=True, drain_timeout=None).status == 0


def test_an_ipv6_vip_that_was_on_lo_before_us_is_still_there(unchanged: Operator) -> None:
    """What we did not make we do not remove; IPv6 needs no sysctls."""
    rs = unchanged.site.real_servers[0]
    rs.run("ip", "addr", "add", f"{VIP6}/128", "dev", "lo")
    before = unchanged.snapshots()
    assert unchanged.add(unchanged.vip(6), [rs.ipv6]).status == 0
    assert unchanged.remove(unchanged.vip(6), [rs.ipv6], prune=True, drain_timeout=None).status == 0
    assert unchanged.differences(before) == ""
    rs.run("ip", "addr", "del", f"{VIP6}/128", "dev", "lo")


def test_a_vip_that_was_on_lo_before_us_is_still_there(operator: Operator) -> None:
    """What we did not make we do not remove, and the host is not made to answer ARP for it."""
    rs = operator.site.real_servers[0]
    rs.run("ip", "addr", "add", f"{VIP}/32", "dev", "lo")
    before = operator.snapshots()
    assert operator.add(operator.vip(4), [rs.ipv4]).status == 0
    outcome = operator.remove(operator.vip(4), [rs.ipv4], prune=True, drain_timeout=None)
    assert outcome.status == 0
    assert f"{VIP}/32" in rs.out("ip", "-o", "addr", "show", "dev", "lo")
    assert sysctl(rs, "all/arp_ignore") == 1
    assert any("ARP sysctls stay" in line for step in outcome.steps for line in step.details)
    rs.run("ip", "addr", "del", f"{VIP}/32", "dev", "lo")
    assert operator.add(operator.vip(4), [rs.ipv4]).status == 0
    assert operator.remove(operator.vip(4), [rs.ipv4], prune=True, drain_timeout=None).status == 0
    rs.run("ip", "addr", "add", f"{VIP}/32", "dev", "lo")
    assert operator.differences(before) == ""
    rs.run("ip", "addr", "del", f"{VIP}/32", "dev", "lo")


def test_a_real_server_that_is_gone_is_removed_without_its_agent(operator: Operator) -> None:
    """--no-rs-agent removes the directors' side, status 0; the next removal that reaches the agent finishes."""
    before = operator.snapshots()
    rs = operator.site.real_servers[0]
    assert operator.add(operator.vip(4), [rs.ipv4]).status == 0
    operator.agents[rs.name].kill()
    refused = operator.remove(operator.vip(4), [rs.ipv4], prune=True, drain_timeout=None)
    assert refused.status == 14
    assert told(refused).endswith("--no-rs-agent --no-drain --prune")
    assert operator.remove(operator.vip(4), [rs.ipv4], prune=True, ask_real_servers=False).status == 0
    assert operator.site.director.out("ipvsadm", "-Sn") == ""
    operator.agents[rs.name].start()
    assert operator.leftovers() == [rs.ipv4]
    assert operator.remove(operator.vip(4), [rs.ipv4]).status == 0
    assert operator.leftovers() == []
    assert operator.differences(before) == ""


def test_removing_what_is_not_there_is_no_error(unchanged: Operator) -> None:
    """Status 0, and it says so."""
    outcome = unchanged.remove(unchanged.vip(4), [unchanged.rs(4)[0]])
    assert (outcome.status, outcome.message) == (0, "nothing to remove")


def test_the_last_destination_is_not_removed_by_accident(operator: Operator) -> None:
    """Refused with 13 unless --prune or --force."""
    rs = operator.rs(4)[0]
    assert operator.add(operator.vip(4), [rs]).status == 0
    before = operator.snapshots()
    refused = operator.remove(operator.vip(4), [rs])
    assert refused.status == 13
    assert "--prune" in refused.message
    assert operator.differences(before) == ""
    assert operator.remove(operator.vip(4), [rs], prune=True, drain_timeout=None).status == 0
