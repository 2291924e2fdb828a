"""Bad input is refused by the agents too, whoever their client is: INVALID_ARGUMENT, the field and the rule (P8)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from lvsagent.v1 import destination_pb2, vip_pb2, virtual_server_pb2

from agent_common.errors import InvalidInputError, LvsError, RefusedError
from agent_common.operation import Operation
from agent_realserver.arp import read_values
from cli.client import AgentClient, Clients
from cli.site import AgentName, Role
from tests.hosts import DirectorHost, RealServerHost
from tests.serving import serving

VIP, RS, PORT = "192.168.0.200", "192.168.0.104", 10000
TCP = virtual_server_pb2.PROTOCOL_TCP


def key(address: str = VIP, port: int = PORT, protocol: int = TCP) -> virtual_server_pb2.VirtualServerKey:
    """A virtual server's key."""
    where = virtual_server_pb2.ServiceAddress(address=address, port=port)
    where.protocol = protocol  # type: ignore[assignment]  # numbers that no enum has, too
    return virtual_server_pb2.VirtualServerKey(service_address=where)


def virtual_server(
    server_key: virtual_server_pb2.VirtualServerKey, scheduler: str = "rr", seconds: int = 0
) -> Operation:
    """A request for a virtual server."""
    server = virtual_server_pb2.VirtualServer(key=server_key, scheduler=scheduler)
    if seconds:
        server.persistence.timeout.CopyFrom(Duration(seconds=seconds))
    return Operation(create_virtual_server=virtual_server_pb2.CreateVirtualServerRequest(virtual_server=server))


def destination(address: str = "192.168.0.104", port: int = PORT, weight: int = 1, **options: int) -> Operation:
    """A request for a destination."""
    message = destination_pb2.Destination(
        key=destination_pb2.DestinationKey(address=address, port=port),
        weight=weight,
        **options,  # type: ignore[arg-type]
    )
    return Operation(
        create_destination=destination_pb2.CreateDestinationRequest(virtual_server=key(), destination=message)
    )


def vip(address: str = VIP, operator: str = "me", device: str = "") -> Operation:
    """A request for a VIP."""
    request = vip_pb2.CreateVipRequest(vip=vip_pb2.Vip(address=address, device=device))
    if operator:
        request.holder.operator = operator
    return Operation(create_vip=request)


def update(*paths: str) -> Operation:
    """A request to change the fields of a destination that a mask names."""
    message = destination_pb2.Destination(key=destination_pb2.DestinationKey(address="192.168.0.104", port=PORT))
    return Operation(
        update_destination=destination_pb2.UpdateDestinationRequest(
            virtual_server=key(), destination=message, update_mask=FieldMask(paths=paths)
        )
    )


DIRECTOR: dict[str, tuple[Operation, str, str]] = {
    "no address": (virtual_server(key("")), "address", "not an IPv4 or IPv6 address"),
    "a name": (virtual_server(key("www.example.net")), "address", "not an IPv4 or IPv6 address"),
    "a mapped address": (virtual_server(key("::ffff:192.168.0.200")), "address", "IPv4-mapped"),
    "a loopback address": (virtual_server(key("127.0.0.1")), "address", "loopback"),
    "a multicast address": (virtual_server(key("ff02::1")), "address", "multicast"),
    "port 65536": (virtual_server(key(port=65536)), "port", "0 to 65535"),
    "port 0 without persistence": (virtual_server(key(port=0)), "port", "needs persistence"),
    "no protocol": (virtual_server(key(protocol=0)), "protocol", "must be set"),
    "an unknown protocol": (virtual_server(key(protocol=77)), "protocol", "77 is unknown"),
    "no key": (virtual_server(virtual_server_pb2.VirtualServerKey()), "key", "must be set"),
    "an unknown scheduler": (virtual_server(key(), "best"), "scheduler", "'best' is unknown"),
    "persistence below 0": (virtual_server(key(), seconds=-1), "persistence.timeout", "out of range"),
    "persistence of a year": (virtual_server(key(), seconds=31536000), "persistence.timeout", "out of range"),
    "the other family": (destination("2001:db8::104"), "address", "differ in family"),
    "another port": (destination(port=PORT + 1), "port", "cannot translate ports"),
    "a weight beyond the kernel's": (destination(weight=2**31), "weight", "out of range"),
    "an unknown forwarding method": (destination(forwarding_method=9), "forwarding_method", "9 is unknown"),
    "a threshold beyond ipvsadm's": (destination(upper_threshold=2**31), "upper_threshold", "out of range"),
    "thresholds that cross": (destination(upper_threshold=1, lower_threshold=2), "lower_threshold", "upper_threshold"),
    "an empty mask": (update(), "update_mask", "must name a field"),
    "a field that cannot change": (update("key"), "update_mask", "'key' cannot be updated"),
    "nobody's VIP": (vip(operator=""), "holder", "must be set"),
    "a VIP on an interface that is not there": (vip(device="eth7"), "vip.device", "no interface eth7"),
    "nothing at all": (Operation(), "operation", "must be set"),
}
REAL_SERVER: dict[str, tuple[Operation, str, str]] = {
    "no address": (vip(""), "vip.address", "not an IPv4 or IPv6 address"),
    "a prefix": (vip(f"{VIP}/32"), "vip.address", "not an IPv4 or IPv6 address"),
    "a link-local address": (vip("fe80::1"), "vip.address", "link-local"),
    "nobody's VIP": (vip(operator=""), "holder", "must be set"),
    "a VIP on another interface": (vip(device="eth0"), "vip.device", "goes on lo"),
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Clients]:
    """A director and a real server behind real gRPC; at the end neither kernel nor state has been touched."""
    director, real_server = DirectorHost(), RealServerHost()
    before = [repr(each) for each in look(director, real_server)]
    async with serving(tmp_path, {"lb": director, RS: real_server}) as served:
        yield await served.clients()
    assert [repr(each) for each in look(director, real_server)] == before


def look(director: DirectorHost, real_server: RealServerHost) -> Iterator[object]:
    """Everything that a bad request could have changed."""
    for host in (director, real_server):
        yield host.addresses.addresses()
        yield [host.state.list(kind) for kind in ("change", "vip", "virtual_server", "destination", "arp_sysctl")]
    yield director.ipvs.virtual_servers()
    yield read_values(real_server.sysctls, ["eth0"])


def agent(site: Clients, role: Role) -> AgentClient:
    """The director or the real server."""
    return site[site.site.director_names()[0] if role is Role.DIRECTOR else AgentName(role=role, name=RS)]


async def send(client: AgentClient, operation: Operation, change_id: str = "") -> LvsError:
    """What an agent answers to an operation by its own RPC; it must be an error."""
    with pytest.raises(LvsError) as caught:
        await client.apply(operation, change_id)
    return caught.value


async def send_in_batch(client: AgentClient, operation: Operation) -> LvsError:
    """What a director answers to an operation as an item of a batch; it must be an error."""
    with pytest.raises(LvsError) as caught:
        await client.apply_all([operation], "")
    return caught.value


@pytest.mark.parametrize("what", DIRECTOR)
async def test_a_director_checks_each_field(site: Clients, what: str) -> None:
    """By the operation's own RPC, and the same in a batch: which field breaks which rule."""
    operation, field, rule = DIRECTOR[what]
    client = agent(site, Role.DIRECTOR)
    errors = [await send_in_batch(client, operation)]
    if operation.WhichOneof("operation") is not None:
        errors.append(await send(client, operation))
    for error in errors:
        assert isinstance(error, InvalidInputError)
        assert error.field.endswith(field)
        assert rule in error.message


@pytest.mark.parametrize("what", REAL_SERVER)
async def test_a_real_server_checks_each_field(site: Clients, what: str) -> None:
    """Which field breaks which rule."""
    operation, field, rule = REAL_SERVER[what]
    error = await send(agent(site, Role.REAL_SERVER), operation)
    assert isinstance(error, InvalidInputError)
    assert error.field.endswith(field)
    assert rule in error.message


async def test_a_name_of_a_change_that_is_too_long(site: Clients) -> None:
    """Names are 1 to 64 characters long."""
    error = await send(agent(site, Role.REAL_SERVER), vip(), "x" * 65)
    assert isinstance(error, InvalidInputError)
    assert error.field == "change_id"


async def test_an_operation_of_the_other_kind_of_agent(site: Clients) -> None:
    """A director has no ARP sysctls to set: refused, naming the operation."""
    operation = Operation()
    operation.silence_arp.operator = "me"
    error = await send_in_batch(agent(site, Role.DIRECTOR), operation)
    assert isinstance(error, RefusedError)
    assert "a director does not silence arp" in error.message
