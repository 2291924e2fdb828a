"""Bad input is refused by the agents too, whoever their client is: INVALID_ARGUMENT, the field and the rule (P8).

That the hosts are as before is asserted by the fixture `pristine`, by ip, ipvsadm and /proc.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from lvsagent.v1 import destination_pb2, vip_pb2, virtual_server_pb2

from agent_common.errors import InvalidInputError, LvsError, RefusedError
from agent_common.operation import Operation
from cli.client import Clients
from cli.site import AgentName, Role
from lab.site import VIP
from tests.lab.operator import PORT, Operator

TCP = virtual_server_pb2.PROTOCOL_TCP
TUNNEL = destination_pb2.FORWARDING_METHOD_TUNNELING


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
    "a threshold beyond ipvsadm's": (destination(upper_threshold=65536), "upper_threshold", "out of range"),
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


def send(operator: Operator, agent: AgentName, operation: Operation, change_id: str = "") -> LvsError:
    """What an agent answers to an operation; it must be an error."""

    async def ask() -> LvsError:
        async with Clients(operator.agent_site(), lambda call: None) as clients:
            client = clients[agent]
            try:
                if operation.WhichOneof("operation") is None:
                    await client.apply_all([operation], change_id)
                else:
                    await client.apply(operation, change_id)
            except LvsError as error:
                return error
        raise AssertionError("it was accepted")

    return asyncio.run(ask())


def cases() -> Iterator[tuple[AgentName, str, Operation, str, str]]:
    """Every bad request, and whom it is sent to."""
    for role, name, table in ((Role.DIRECTOR, "", DIRECTOR), (Role.REAL_SERVER, "192.168.0.104", REAL_SERVER)):
        for what, (operation, field, rule) in table.items():
            yield AgentName(role=role, name=name), what, operation, field, rule


def named(operator: Operator, agent: AgentName) -> AgentName:
    """The agent as this site calls it."""
    return agent if agent.name else operator.agent_site().director_names()[0]


def test_each_field_is_checked_by_the_agent_too(pristine: Operator) -> None:
    """Twenty-nine bad requests: each is told which field breaks which rule."""
    wrong = []
    for agent, what, operation, field, rule in cases():
        error = send(pristine, named(pristine, agent), operation)
        good = isinstance(error, InvalidInputError) and error.field.endswith(field) and rule in error.message
        if not good:
            wrong.append((agent.role.value, what, type(error).__name__, error.field, error.message))
    assert wrong == []


def test_a_name_of_a_change_that_is_too_long(pristine: Operator) -> None:
    """Names are 1 to 64 characters long."""
    error = send(pristine, AgentName(role=Role.REAL_SERVER, name="192.168.0.104"), vip(), "x" * 65)
    assert isinstance(error, InvalidInputError)
    assert error.field == "change_id"


def test_an_operation_of_the_other_kind_of_agent(pristine: Operator) -> None:
    """A director has no ARP sysctls to set: refused, naming the operation."""
    (director,) = pristine.agent_site().director_names()
    operation = Operation()
    operation.silence_arp.operator = "me"

    async def ask() -> LvsError | None:
        async with Clients(pristine.agent_site(), lambda call: None) as clients:
            _, error = await clients[director].try_all([operation], "", validate_only=False)
            return error

    error = asyncio.run(ask())
    assert isinstance(error, RefusedError)
    assert "a director does not silence arp" in error.message
