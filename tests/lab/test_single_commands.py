"""service, destination and vip one at a time, as typed; ipvsadm and ip tell what they did."""

from __future__ import annotations

from lab.site import VIP
from tests.lab.operator import Operator

ONE_SIXTH = True

KEY = f"tcp/{VIP}:80"
RS = "192.168.0.104"


def rules(operator: Operator) -> list[str]:
    return operator.site.director.out("ipvsadm", "-Sn").splitlines()


def test_a_virtual_server_and_a_destination_from_beginning_to_end(unchanged: Operator) -> None:
    """What is not given stays as it is; what is in use is not removed unless it is forced."""
    lvs, name = unchanged.lvs, f"{VIP}:80"
    lvs("service", "add", KEY, "--scheduler", "sh", "--scheduler-flags", "sh-fallback", "--persistent", "300")
    lvs("service", "edit", KEY, "--persistence-prefix", "24")
    assert rules(unchanged) == [f"-A -t {name} -s sh -p 300 -M 255.255.255.0 -b sh-fallback"]
    lvs("service", "edit", KEY, "--persistent", "600")
    assert rules(unchanged) == [f"-A -t {name} -s sh -p 600 -M 255.255.255.0 -b sh-fallback"]
    lvs("service", "edit", KEY, "--persistent", "0", "--scheduler-flags", "none", "--scheduler", "rr")
    said = lvs("destination", "add", KEY, RS, "--forward", "nat", "--weight", "5", "--upper-threshold", "9").stderr
    assert "the real server is not asked" in said
    lvs("destination", "edit", KEY, RS, "--weight", "7")
    assert rules(unchanged) == [f"-A -t {name} -s rr", f"-a -t {name} -r {RS}:80 -m -w 7"]
    shown = unchanged.site.director.out("ipvsadm", "-Ln", "--thresholds").splitlines()[-1].split()
    assert shown[:4] == ["->", f"{RS}:80", "9", "0"]
    refused = lvs("service", "remove", KEY, status=13)
    assert "it has 1 destination" in refused.stderr
    lvs("service", "remove", KEY, "--force")
    assert rules(unchanged) == []


def test_persistence_by_a_mask_with_holes_and_by_calls(unchanged: Operator) -> None:
    """What only ipvsadm could say."""
    lvs, key, name = unchanged.lvs, f"udp/{VIP}:5060", f"{VIP}:5060"
    lvs(
        "service",
        "add",
        key,
        "--persistent",
        "60",
        "--persistence-prefix",
        "255.0.255.0",
        "--persistence-engine",
        "sip",
    )
    assert rules(unchanged) == [f"-A -u {name} -s wlc -p 60 -M 255.0.255.0 --pe sip"]
    lvs("service", "edit", key, "--persistence-prefix", "24", "--persistence-engine", "none")
    assert rules(unchanged) == [f"-A -u {name} -s wlc -p 60 -M 255.255.255.0"]
    lvs("service", "edit", key, "--persistence-prefix", "255.255.255.255")
    assert rules(unchanged) == [f"-A -u {name} -s wlc -p 60"]
    lvs("service", "remove", key)


def test_a_vip_that_a_virtual_server_holds_is_not_removed(unchanged: Operator) -> None:
    """Neither on the director nor on the real server; --force gives up every hold."""
    rs = unchanged.site.real_servers[0]
    assert unchanged.add(unchanged.vip(4), [RS]).status == 0
    for options, host in (((), unchanged.site.director), (("--rs", RS), rs)):
        refused = unchanged.lvs("vip", "remove", VIP, *options, status=13)
        assert f"tcp/{unchanged.vip(4)} uses it" in refused.stderr
        assert VIP in host.out("ip", "addr")
    assert unchanged.remove(unchanged.vip(4), [RS], prune=True, drain_timeout=None).status == 0
