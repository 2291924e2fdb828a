"""Text forms of keys, endpoints and holders: what is written is read back, and what is malformed names the field."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent_common.errors import InvalidInputError
from agent_common.vip import Holder, OperatorHolder, VirtualServerHolder, parse_holder
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    IpAddress,
    Protocol,
    ServiceAddress,
    VirtualServerKey,
    check_unicast,
    format_endpoint,
    key_order,
    parse_address,
    parse_endpoint,
    parse_key,
    parse_port,
    parse_unicast,
)


def can_be_served(address: IpAddress) -> bool:
    try:
        check_unicast(parse_address(str(address), "address"), "address")
    except InvalidInputError:
        return False
    return True


addresses = st.ip_addresses().filter(can_be_served)
ports = st.integers(0, 65535)
keys: st.SearchStrategy[VirtualServerKey] = st.one_of(
    st.builds(ServiceAddress, protocol=st.sampled_from(Protocol), address=addresses, port=ports),
    st.builds(FirewallMark, mark=st.integers(1, 0xFFFFFFFF), family=st.sampled_from(Family)),
)
names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
holders: st.SearchStrategy[Holder] = st.one_of(
    st.builds(VirtualServerHolder, key=keys, authority=names), st.builds(OperatorHolder, name=names)
)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (
            "tcp/192.168.0.200:80",
            ServiceAddress(protocol=Protocol.TCP, address=IPv4Address("192.168.0.200"), port=80),
        ),
        ("udp/[2001:db8::1]:53", ServiceAddress(protocol=Protocol.UDP, address=IPv6Address("2001:db8::1"), port=53)),
        ("sctp/192.168.0.200:0", ServiceAddress(protocol=Protocol.SCTP, address=IPv4Address("192.168.0.200"), port=0)),
        ("fwmark/7", FirewallMark(mark=7, family=Family.IPV4)),
        ("fwmark6/4294967295", FirewallMark(mark=4294967295, family=Family.IPV6)),
    ],
)
def test_the_text_forms(text: str, key: VirtualServerKey) -> None:
    assert parse_key(text) == key
    assert str(key) == text


@given(keys)
def test_every_key_is_read_back(key: VirtualServerKey) -> None:
    assert parse_key(str(key)) == key


@given(holders)
def test_every_holder_is_read_back(each: Holder) -> None:
    assert parse_holder(str(each)) == each


@given(keys, keys)
def test_different_keys_have_different_texts_and_places(one: VirtualServerKey, other: VirtualServerKey) -> None:
    assume(one != other)
    assert str(one) != str(other)
    assert key_order(one) != key_order(other)


@given(holders, holders)
def test_different_holders_have_different_texts(one: Holder, other: Holder) -> None:
    assume(one != other)
    assert str(one) != str(other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp",
        "tcp/",
        "/192.168.0.200:80",
        "192.168.0.200:80",
        "TCP:192.168.0.200:80",
        "icmp/192.168.0.200:80",
        "tcp/192.168.0.200",
        "tcp/192.168.0.200:",
        "tcp/192.168.0.200:65536",
        "tcp/192.168.0.200:-1",
        "tcp/192.168.0.200:+80",
        "tcp/192.168.0.200: 80",
        "tcp/192.168.0.200:0x50",
        "tcp/192.168.0.200:\u0668\u0660",
        "tcp/192.168.0.200:80/24",
        "tcp/192.168.0.200/32:80",
        "tcp/192.168.0.300:80",
        "tcp/192.168.200:80",
        "tcp/0192.168.0.200:80",
        "tcp/vip.example.com:80",
        "tcp/2001:db8::1:80",
        "tcp/[2001:db8::1]",
        "tcp/[2001:db8::1]80",
        "tcp/[2001:db8::1%eth0]:80",
        "tcp/[192.168.0.200:80",
        "fwmark",
        "fwmark/",
        "fwmark/0",
        "fwmark/4294967296",
        "fwmark/99999999999",
        "fwmark/-1",
        "fwmark/0x7",
        "fwmark/7 ",
        "fwmark4/7",
    ],
)
def test_what_is_no_key_names_the_field(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_key(text, "service")
    assert caught.value.field in ("service", "mark")
    assert caught.value.message.startswith(f"{caught.value.field}: ")


@given(st.text(max_size=30))
def test_any_text_is_a_key_or_names_the_field(text: str) -> None:
    try:
        key = parse_key(text)
    except InvalidInputError as error:
        assert error.field
    else:
        assert parse_key(str(key)) == key


@pytest.mark.parametrize(
    "text", ["", "operator", "operator/", "operator/a b", "tcp/192.168.0.200:80", "tcp/192.168.0.200:80@", "@d1"]
)
def test_what_is_no_holder_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_holder(text)


@given(addresses, ports)
def test_every_endpoint_is_read_back(address: IpAddress, port: int) -> None:
    assert parse_endpoint(format_endpoint(address, port), "rs") == (address, port)


@pytest.mark.parametrize("text", ["192.168.0.104", "2001:db8::104", "[2001:db8::104]"])
def test_an_address_alone_takes_the_default_port_where_there_is_one(text: str) -> None:
    assert parse_endpoint(text, "rs", default_port=80) == (ip_address(text.strip("[]")), 80)
    with pytest.raises(InvalidInputError) as caught:
        parse_endpoint(text, "vip")
    assert caught.value.field == "vip"


def test_an_endpoint_without_a_port_says_how_to_write_one() -> None:
    with pytest.raises(InvalidInputError, match=r"vip: '192\.168\.0\.200' has no port; write 192\.168\.0\.200:80"):
        parse_endpoint("192.168.0.200", "vip")
    with pytest.raises(InvalidInputError, match=r"write an IPv6 address as \[ADDRESS\]:PORT"):
        parse_endpoint("2001:db8::1", "vip")


@pytest.mark.parametrize("text", ["", "65536", "-1", "080000", "8 0", "1e3", "\u0661"])
def test_what_is_no_port_names_the_field(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_port(text, "port")
    assert caught.value.field == "port"


@given(st.ip_addresses(v=6))
def test_a_scope_id_or_a_mapped_address_is_refused_with_what_to_write(address: IPv6Address) -> None:
    with pytest.raises(InvalidInputError, match="scope id"):
        parse_address(f"{address.exploded}%eth0", "vip")
    with pytest.raises(InvalidInputError, match=r"IPv4-mapped address; write 192\.0\.2\.1"):
        parse_unicast("::ffff:192.0.2.1", "vip")


def test_a_mapped_address_that_is_there_is_written_as_ipvsadm_writes_it() -> None:
    """The kernel takes one, and what is there must be shown."""
    assert str(parse_key("tcp/[::ffff:192.0.2.1]:80")) == "tcp/[::ffff:192.0.2.1]:80"
    assert str(parse_key("tcp/[::ffff:c000:201]:80")) == "tcp/[::ffff:192.0.2.1]:80"
