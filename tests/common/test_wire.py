"""Messages to our own types and back: every value comes back, and an unknown one is an error."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from hypothesis import assume, given
from hypothesis import strategies as st
from lvsagent.v1 import destination_pb2, vip_pb2, virtual_server_pb2

from agent_common import wire, wire_vip
from agent_common.destination import (
    Destination,
    DestinationStatus,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.errors import InvalidInputError
from agent_common.etag import etag_of
from agent_common.vip import Holder, Vip, VipMode
from agent_common.virtual_server import Family, Protocol, VirtualServer, VirtualServerKey
from agent_common.wire_status import unpack_destination_status
from agent_director.wire_destination import pack_destination_status
from tests.common.test_keys import addresses, holders, keys
from tests.director import strategies

virtual_servers = st.builds(
    VirtualServer,
    key=keys,
    scheduler=strategies.names,
    scheduler_flags=strategies.flags,
    persistence=strategies.virtual_servers.map(lambda server: server.persistence),
    one_packet=st.booleans(),
)
# Without tunnelling there is no tunnel to speak of.
destinations = st.builds(
    lambda destination, draining, tunnel: Destination(
        key=destination.key,
        forwarding=destination.forwarding,
        weight=destination.weight,
        draining=draining,
        upper_threshold=destination.upper_threshold,
        lower_threshold=destination.lower_threshold,
        tunnel=tunnel if destination.forwarding is Forwarding.TUNNELING else Tunnel(),
    ),
    strategies.destinations,
    st.booleans(),
    strategies.tunnels,
)
vips = st.builds(
    Vip,
    address=addresses,
    device=st.sampled_from(["", "lo", "eth0.7"]),
    mode=st.sampled_from(VipMode),
    holders=st.lists(holders, unique=True, max_size=4).map(lambda each: tuple(sorted(each, key=str))),
    made_address=st.booleans(),
    made_route=st.booleans(),
    present_device=st.sampled_from(["", "lo", "eth1"]),
    route_present=st.booleans(),
)


@given(keys)
def test_every_key_comes_back(key: VirtualServerKey) -> None:
    assert wire.unpack_key(wire.pack_key(key)) == key


@given(virtual_servers)
def test_every_virtual_server_comes_back(server: VirtualServer) -> None:
    packed = wire.pack_virtual_server(server)
    assert wire.unpack_virtual_server(type(packed).FromString(packed.SerializeToString())) == server


@given(destinations)
def test_every_destination_comes_back(destination: Destination) -> None:
    packed = wire.pack_destination(destination)
    assert wire.unpack_destination(type(packed).FromString(packed.SerializeToString())) == destination


@given(destinations, strategies.u32, strategies.u32, strategies.u32, strategies.u32, st.booleans())
def test_every_status_of_a_destination_comes_back(
    destination: Destination, weight: int, active: int, inactive: int, persistent: int, managed: bool
) -> None:
    status = DestinationStatus(
        destination=destination,
        current_weight=weight,
        active=active,
        inactive=inactive,
        persistent=persistent,
        managed=managed,
    )
    assert unpack_destination_status(pack_destination_status(status)) == status


@given(holders)
def test_every_holder_comes_back(each: Holder) -> None:
    assert wire_vip.unpack_holder(wire_vip.pack_holder(each)) == each


@given(vips)
def test_every_vip_comes_back(vip: Vip) -> None:
    packed = wire_vip.pack_vip(vip)
    assert packed.present == bool(vip.present_device)
    assert wire_vip.unpack_vip(type(packed).FromString(packed.SerializeToString())) == vip


@pytest.mark.parametrize(
    ("table", "wrapper", "meanings"),
    [
        (wire.PROTOCOLS, virtual_server_pb2.Protocol, Protocol),
        (wire.FAMILIES, virtual_server_pb2.AddressFamily, Family),
        (wire.FORWARDINGS, destination_pb2.ForwardingMethod, Forwarding),
        (wire.TUNNEL_TYPES, destination_pb2.TunnelType, TunnelType),
        (wire.TUNNEL_CHECKSUMS, destination_pb2.TunnelChecksum, TunnelChecksum),
        (wire_vip.VIP_MODES, vip_pb2.VipMode, VipMode),
    ],
)
def test_the_tables_hold_every_value_of_both_sides_once(
    table: Mapping[int, Enum], wrapper: EnumTypeWrapper, meanings: type[Enum]
) -> None:
    assert set(table) == set(wrapper.values()) - {0}
    assert sorted(table.values(), key=str) == sorted(meanings, key=str)
    for number, meaning in table.items():
        assert wrapper.Name(number).endswith(f"_{meaning.name}")


def test_a_value_that_is_not_set_or_unknown_is_an_error_never_a_default() -> None:
    for number, said in ((0, "protocol: must be set"), (99, "protocol: 99 is unknown")):
        with pytest.raises(InvalidInputError, match=said) as caught:
            wire.unpack_enum(wire.PROTOCOLS, number, "protocol")
        assert caught.value.field == "protocol"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (virtual_server_pb2.VirtualServerKey(), "key"),
        (
            virtual_server_pb2.VirtualServerKey(service_address=virtual_server_pb2.ServiceAddress()),
            "key.service_address.protocol",
        ),
        (
            virtual_server_pb2.VirtualServerKey(
                service_address=virtual_server_pb2.ServiceAddress(protocol=virtual_server_pb2.PROTOCOL_TCP)
            ),
            "key.service_address.address",
        ),
        (
            virtual_server_pb2.VirtualServerKey(
                service_address=virtual_server_pb2.ServiceAddress(
                    protocol=virtual_server_pb2.PROTOCOL_TCP, address="192.168.0.200", port=65536
                )
            ),
            "key.service_address.port",
        ),
        (
            virtual_server_pb2.VirtualServerKey(firewall_mark=virtual_server_pb2.FirewallMark(mark=1)),
            "key.firewall_mark.family",
        ),
        (
            virtual_server_pb2.VirtualServerKey(
                firewall_mark=virtual_server_pb2.FirewallMark(family=virtual_server_pb2.ADDRESS_FAMILY_IPV4)
            ),
            "mark",
        ),
    ],
    ids=str,
)
def test_a_malformed_key_names_the_field(message: virtual_server_pb2.VirtualServerKey, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire.unpack_key(message)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (vip_pb2.VipHolder(), "holder"),
        (vip_pb2.VipHolder(operator=""), "operator"),
        (vip_pb2.VipHolder(operator="x" * 65), "operator"),
        (vip_pb2.VipHolder(operator="a/b"), "operator"),
        (vip_pb2.VipHolder(virtual_server=vip_pb2.VirtualServerHolder()), "holder.virtual_server.key"),
        (
            vip_pb2.VipHolder(
                virtual_server=vip_pb2.VirtualServerHolder(
                    key=virtual_server_pb2.VirtualServerKey(
                        firewall_mark=virtual_server_pb2.FirewallMark(
                            mark=7, family=virtual_server_pb2.ADDRESS_FAMILY_IPV4
                        )
                    )
                )
            ),
            "holder.virtual_server.authority",
        ),
    ],
    ids=str,
)
def test_a_malformed_holder_names_the_field(message: vip_pb2.VipHolder, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire_vip.unpack_holder(message)
    assert caught.value.field == field


def test_an_address_that_we_would_not_serve_can_be_read_but_not_hold_a_vip() -> None:
    """Other programs put such things into the kernel; what holds a VIP is read again from the state."""
    address = virtual_server_pb2.ServiceAddress(protocol=virtual_server_pb2.PROTOCOL_TCP, address="127.0.0.1", port=80)
    key = virtual_server_pb2.VirtualServerKey(service_address=address)
    assert str(wire.unpack_key(key)) == "tcp/127.0.0.1:80"
    with pytest.raises(InvalidInputError) as caught:
        wire_vip.unpack_holder(
            vip_pb2.VipHolder(virtual_server=vip_pb2.VirtualServerHolder(key=key, authority="director-1"))
        )
    assert caught.value.field == "holder.virtual_server.key.service_address.address"


@pytest.mark.parametrize(
    "timeout", [Duration(), Duration(seconds=1, nanos=1), Duration(seconds=-1), Duration(seconds=31 * 86400 + 1)]
)
def test_persistence_is_whole_seconds_in_range(timeout: Duration) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire.unpack_persistence(virtual_server_pb2.Persistence(timeout=timeout))
    assert caught.value.field == "persistence.timeout"


@given(virtual_servers, virtual_servers)
def test_the_etag_changes_whenever_the_configuration_does(one: VirtualServer, other: VirtualServer) -> None:
    tag = etag_of(wire.pack_virtual_server(one))
    assert etag_of(wire.pack_virtual_server(one)) == tag
    assert len(tag) == 16
    assume(one != other)
    assert etag_of(wire.pack_virtual_server(other)) != tag


def test_weight_0_is_not_an_unset_weight() -> None:
    message = destination_pb2.Destination(key=destination_pb2.DestinationKey(address="192.168.0.104", port=80))
    assert wire.unpack_destination(message).weight == 1
    message.weight = 0
    assert wire.unpack_destination(message).weight == 0
