"""Rules of ipvsadm are read as it reads them, and written as it writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.destination import Destination, DestinationKey, Forwarding, Tunnel, TunnelType
from agent_common.scheduler import SchedulerFlags
from agent_common.table import DestinationStep, Entry, ServerStep, Table
from agent_common.virtual_server import FirewallMark, Persistence, VirtualServer, VirtualServerKey, parse_key
from cli.rule_writer import describe, write_rules
from cli.rules import read_rules
from tests.director.ipvs_samples import WEB, destination, destinations, virtual_servers
from tests.lab import ipvsadm

NAME = "192.168.0.200:80"


def read(*lines: str) -> Table:
    """Return the table of rules that are all good."""
    rules = read_rules(lines)
    assert rules.bad == ()
    return rules.table


def one(line: str) -> VirtualServer | None:
    """Return the virtual server of a line."""
    (entry,) = read(line).values()
    return entry.virtual_server


def its_destination(*lines: str) -> Destination:
    """Return the only destination of some lines."""
    (entry,) = read(*lines).values()
    (found,) = entry.destinations.values()
    return found


@pytest.mark.parametrize("server", virtual_servers(), ids=str)
def test_a_virtual_server_is_read_and_written_as_ipvsadm_does(server: VirtualServer) -> None:
    line = ipvsadm.add_virtual_server(server)
    assert one(line) == server
    saved = ipvsadm.saved_virtual_server(server)
    if line == saved:  # it prints two wrong, so that its own -R cannot read them
        assert list(write_rules(read(line))) == [saved]
    else:
        assert list(write_rules(read(line))) == [line]


@pytest.mark.parametrize(("key", "wanted"), destinations(), ids=str)
def test_a_destination_is_read_and_written_as_ipvsadm_does(key: VirtualServerKey, wanted: Destination) -> None:
    assert its_destination(ipvsadm.add_destination(key, wanted)) == wanted
    plain = dataclasses.replace(wanted, upper_threshold=0, lower_threshold=0)
    assert list(write_rules({key: Entry(destinations={wanted.key: wanted})})) == [ipvsadm.saved_destination(key, plain)]


@pytest.mark.parametrize(
    "line",
    [
        f"-A -t {NAME} -s rr -p 60 -M 255.255.0.0 -b flag-1",
        f"--add-service --tcp-service {NAME} --scheduler=rr --persistent=60 --netmask 255.255.0.0 --sched-flags flag-1",
        f"  -b flag-1   -p60 -M 255.255.0.0 -s=rr -t{NAME} -A\n",
        f"-Ap 60 -srr -t {NAME} -M255.255.0.0 -bflag-1 -n",
    ],
)
def test_options_may_be_written_in_every_way_of_ipvsadm(line: str) -> None:
    assert one(line) == VirtualServer(
        key=WEB,
        scheduler="rr",
        scheduler_flags=SchedulerFlags(flag_1=True),
        persistence=Persistence(timeout=60, prefix_length=16),
    )


def test_what_is_left_out_is_what_it_is_for_ipvsadm() -> None:
    assert one(f"-A -t {NAME}") == VirtualServer(key=WEB)
    assert one(f"-A -t {NAME} -p") == VirtualServer(key=WEB, persistence=Persistence(timeout=360))
    assert one(f"-A -p -t {NAME}") == VirtualServer(key=WEB, persistence=Persistence(timeout=360))
    every_port = parse_key("tcp/192.168.0.200:0")
    assert one("-A -t 192.168.0.200 -p 9") == VirtualServer(key=every_port, persistence=Persistence(timeout=9))
    plain = Destination(key=DestinationKey(address=IPv4Address("192.168.0.104"), port=80))
    assert its_destination(f"-a -t {NAME} -r 192.168.0.104") == plain
    mark = its_destination("-a -f 7 -r 192.168.0.104")
    assert mark.key.port == 0
    assert one(f"-A -t {NAME} -M 24") == VirtualServer(key=WEB)  # means nothing without -p


def test_ipv6_needs_no_brackets_where_no_port_follows() -> None:
    rules = ("-a -t [2001:db8::200]:80 -r 2001:db8::104", "-A -f 7 -6", "-a -f 7 -6 -r [2001:db8::105]:81 -m")
    table = read(*rules)
    (first,) = table[parse_key("tcp/[2001:db8::200]:80")].destinations
    assert first == DestinationKey(address=ip_address("2001:db8::104"), port=80)
    marked = table[FirewallMark(mark=7, family=parse_key("fwmark6/7").family)]
    assert list(marked.destinations) == [DestinationKey(address=ip_address("2001:db8::105"), port=81)]


def test_a_port_that_dr_and_tun_cannot_translate_is_the_virtual_servers_and_said() -> None:
    rules = read_rules([f"-a -t {NAME} -r 192.168.0.104:8080 -g", f"-a -t {NAME} -r 192.168.0.105:8080 -i"])
    assert [key.port for key in rules.table[WEB].destinations] == [80, 80]
    assert rules.warnings == (
        "line 1: 192.168.0.104:8080 gets port 80: dr and tun translate none",
        "line 2: 192.168.0.105:8080 gets port 80: dr and tun translate none",
    )
    assert its_destination(f"-a -t {NAME} -r 192.168.0.104:8080 -m").key.port == 8080


BAD = {
    "hello": "'hello' is no option",
    "-A": "one of -t, -u, --sctp-service and -f must be given",
    f"-t {NAME}": "a line must have one of -A and -a",
    f"-A -a -t {NAME}": "a line must have one of -A and -a",
    f"-E -t {NAME} -s rr": "-E is no rule; only -A and -a are",
    "-C": "-C is no rule; only -A and -a are",
    "--set 1 2 3": "--set is no rule; only -A and -a are",
    f"-A -t {NAME} -s": "-s needs a value",
    f"-A -t {NAME} -t {NAME}": "-t is given twice",
    f"-A -t {NAME} -u {NAME}": "-t and -u exclude each other",
    f"-A -t {NAME} -w 1": "-A does not take -w",
    f"-a -t {NAME} -r 192.168.0.104 -s rr": "-a does not take -s",
    f"-a -t {NAME}": "-a needs -r",
    f"-A -t {NAME} -k": "-k is no option of ipvsadm's rules",
    f"-A -t {NAME} --ops=1": "-o takes no value",
    "-A -t www.example.net:80": "-t: 'www.example.net' is not an IPv4 or IPv6 address",
    "-A -t 192.168.0.200:http": "-t: 'http' is not a port (0 to 65535)",
    "-A -t 192.168.0.200": "port: 0 (every port) needs persistence",
    f"-A -t {NAME} -s nosuch": "scheduler: 'nosuch' is unknown; use one of",
    f"-A -t {NAME} -b sh-port": "scheduler_flags: sh-port needs scheduler sh",
    f"-A -t {NAME} -b x": "scheduler_flags: 'x' is unknown",
    f"-Atsrr {NAME}": f"'{NAME}' is no option",
    f"-A -t {NAME} -p 0": "persistence timeout: 0 s is out of range",
    f"-A -t {NAME} -p x": "-p: 'x' is not a number",
    f"-A -t {NAME} -p 9 -M 24": "-M: '24' is no IPv4 mask; write it out (255.255.255.0)",
    "-A -t [2001:db8::1]:80 -p 9 -M 129": "persistence prefix length: 129 is out of range (1 to 128)",
    f"-A -t {NAME} -p 9 -M mask": "-M: 'mask' is not a prefix length",
    f"-A -t {NAME} -o": "one_packet: needs UDP or a firewall mark",
    "-A -f 0": "mark: 0 is not a firewall mark",
    f"-a -t {NAME} -r 192.168.0.104 -g -m": "-g and -m exclude each other",
    f"-a -t {NAME} -r 192.168.0.104 -w -1": "-w: '-1' is not a number",
    f"-a -t {NAME} -r 192.168.0.104 -w 2147483648": "weight: 2147483648 is out of range",
    f"-a -t {NAME} -r 192.168.0.104 -x 1 -y 2": "lower_threshold: must not be above upper_threshold",
    f"-a -t {NAME} -r 2001:db8::104": "differ in family; only tunnelling joins them",
    f"-a -t {NAME} -r 192.168.0.104 -i --tun-type vxlan": "--tun-type: 'vxlan' is not ipip, gue or gre",
    f"-a -t {NAME} -r 192.168.0.104 -i --tun-type gue": "tunnel.port: 0 is not a port",
    f"-a -t {NAME} -r 192.168.0.104 -i --tun-type gre --tun-csum --tun-remcsum": "exclude each other",
    f"-a -t {NAME} -r 192.168.0.104 --tun-type gre": "tunnel: only with forwarding method tun",
    f"-a -t {NAME} -r 192.168.0.104 -g --tun-type ipip": "tunnel: only with forwarding method tun",
    f"-a -t {NAME} -r 192.168.0.104 -i --tun-nocsum": "tunnel.checksum: ipip has none",
    f"-a -t {NAME} -r 192.168.0.104 -i --tun-type gre --tun-port 0": "tunnel.port: gre takes no port",
    f"-A -t {NAME} -b none": "-b: 'none' is no flag",
    f"-A -t {NAME} -6": "-6 is only for -f",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_told_with_its_number_and_reason(line: str) -> None:
    rules = read_rules(["# saved yesterday", "", line])
    (bad,) = rules.bad
    assert (bad.number, bad.text, rules.table) == (3, line, {})
    assert BAD[line] in bad.reason
    assert str(bad) == f"line 3: {bad.reason}: {line}"


def test_all_bad_lines_are_told_and_what_is_added_twice() -> None:
    rules = read_rules(
        [f"-A -t {NAME}", "-x", f"-A -t {NAME}", f"-a -t {NAME} -r 1.2.3.4", f"-a -t {NAME} -r 1.2.3.4:9"]
    )
    assert [(bad.number, bad.reason) for bad in rules.bad] == [
        (2, "-x needs a value"),
        (3, "virtual server tcp/192.168.0.200:80 is added twice, first in line 1"),
        (5, "1.2.3.4:80 in tcp/192.168.0.200:80 is added twice, first in line 4"),
    ]


words = st.sampled_from(
    ["-A", "-a", "-t", NAME, "-r", "192.168.0.104", "-p", "-f", "7", "-6", "-w", "-g", "-i", "-m", "-b", "--tun-type"]
)


@given(st.lists(words | st.text(max_size=8), max_size=8).map(" ".join))
def test_no_line_is_too_strange(line: str) -> None:
    rules = read_rules([line])
    assert len(rules.bad) <= 1
    lines: Sequence[str] = list(write_rules(rules.table))
    assert read_rules(lines).table == {
        key: Entry(
            virtual_server=entry.virtual_server,
            destinations={
                each.key: dataclasses.replace(each, upper_threshold=0, lower_threshold=0)
                for each in entry.destinations.values()
            },
        )
        for key, entry in rules.table.items()
    }


def test_a_step_is_told_in_rules() -> None:
    one, heavier = destination(weight=3), destination(weight=5, upper_threshold=9, draining=True)
    server = VirtualServer(key=WEB, scheduler="rr")
    for before, after, line in (
        (None, server, f"add: -A -t {NAME} -s rr"),
        (server, None, f"remove: -A -t {NAME} -s rr"),
        (server, server, f"adopt: -A -t {NAME} -s rr"),
    ):
        assert describe(ServerStep(before=before, after=after)) == line
    name = f"-a -t {NAME} -r 192.168.0.104:80"
    edited = DestinationStep(server=WEB, before=one, after=heavier)
    assert describe(edited) == f"edit: {name} -g -w 3 -> {name} -g -w 5 -x 9 (draining)"


def test_a_table_is_written_virtual_server_by_virtual_server() -> None:
    gue = Tunnel(type=TunnelType.GUE, port=6080)
    table = {
        WEB: Entry(
            virtual_server=VirtualServer(key=WEB, scheduler="rr"),
            destinations={
                each.key: each
                for each in (
                    destination(weight=3),
                    destination("192.168.0.105", forwarding=Forwarding.TUNNELING, tunnel=gue),
                )
            },
        )
    }
    assert list(write_rules(table)) == [
        f"-A -t {NAME} -s rr",
        f"-a -t {NAME} -r 192.168.0.104:80 -g -w 3",
        f"-a -t {NAME} -r 192.168.0.105:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum",
    ]
