"""Which role each RPC needs, and each operation in it. No I/O.

An RPC that is not in ROLES is denied to everybody. Where the role depends on what is asked for, the table has the least
one, and needed_role says the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from google.protobuf.message import Message
from lvsagent.v1 import (
    change_service_pb2,
    drift_service_pb2,
    health_service_pb2,
    ipvs_service_pb2,
    transaction_service_pb2,
    vip_pb2,
    virtual_server_pb2,
)

from agent_common.identity import Role
from agent_common.operation import Change, Operation

_READS = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/lvsagent.v1.ArpService/GetArp",
    "/lvsagent.v1.AuditService/ListAudit",
    "/lvsagent.v1.BackendService/CheckBackend",
    "/lvsagent.v1.ConnectionService/ListConnections",
    "/lvsagent.v1.DriftService/ListDrift",
    "/lvsagent.v1.HealthService/GetHealth",
    "/lvsagent.v1.HealthService/ListHealth",
    "/lvsagent.v1.HealthService/ListHealthEvents",
    "/lvsagent.v1.HostService/CheckListener",
    "/lvsagent.v1.HostService/GetHost",
    "/lvsagent.v1.IpvsService/GetDestination",
    "/lvsagent.v1.IpvsService/GetIpvs",
    "/lvsagent.v1.IpvsService/GetVirtualServer",
    "/lvsagent.v1.IpvsService/ListDestinations",
    "/lvsagent.v1.IpvsService/ListTable",
    "/lvsagent.v1.IpvsService/ListVirtualServers",
    "/lvsagent.v1.IpvsSettingsService/GetTimeouts",
    "/lvsagent.v1.IpvsSettingsService/ListSyncDaemons",
    "/lvsagent.v1.TransactionService/GetTransaction",
    "/lvsagent.v1.TransactionService/ListTransactions",
    "/lvsagent.v1.VipService/GetVip",
    "/lvsagent.v1.VipService/ListVips",
)
_BACKENDS = (
    "/lvsagent.v1.ChangeService/RevertChange",
    "/lvsagent.v1.DriftService/RepairDrift",
    "/lvsagent.v1.HealthService/ProbeDestination",
    "/lvsagent.v1.IpvsService/AdoptDestination",
    "/lvsagent.v1.IpvsService/BatchApply",
    "/lvsagent.v1.IpvsService/CreateDestination",
    "/lvsagent.v1.IpvsService/DeleteDestination",
    "/lvsagent.v1.IpvsService/DeleteVirtualServer",
    "/lvsagent.v1.IpvsService/UpdateDestination",
    "/lvsagent.v1.IpvsService/ZeroCounters",
    "/lvsagent.v1.TransactionService/AbortTransaction",
    "/lvsagent.v1.TransactionService/CommitTransaction",
    "/lvsagent.v1.TransactionService/FinishTransaction",
    "/lvsagent.v1.TransactionService/ForgetTransaction",
    "/lvsagent.v1.TransactionService/PrepareTransaction",
    "/lvsagent.v1.TransactionService/ReadyTransaction",
    "/lvsagent.v1.TransactionService/RenewTransaction",
    "/lvsagent.v1.TransactionService/ResolveTransaction",
    "/lvsagent.v1.VipService/CreateVip",
    "/lvsagent.v1.VipService/DeleteVip",
)
_SITE = (
    "/lvsagent.v1.ArpService/RestoreArp",
    "/lvsagent.v1.ArpService/SilenceArp",
    "/lvsagent.v1.HealthService/DeleteHealth",
    "/lvsagent.v1.HealthService/SetHealth",
    "/lvsagent.v1.IpvsService/AdoptVirtualServer",
    "/lvsagent.v1.IpvsService/ApplyTable",
    "/lvsagent.v1.IpvsService/CreateVirtualServer",
    "/lvsagent.v1.IpvsService/UpdateVirtualServer",
    "/lvsagent.v1.IpvsSettingsService/StartSyncDaemon",
    "/lvsagent.v1.IpvsSettingsService/StopSyncDaemon",
    "/lvsagent.v1.IpvsSettingsService/UpdateTimeouts",
)

ROLES: Mapping[str, Role] = {
    **dict.fromkeys(_READS, Role.VIEWER),
    **dict.fromkeys(_BACKENDS, Role.OPERATOR),
    **dict.fromkeys(_SITE, Role.ADMIN),
}
"""The least role for each RPC, by the path that gRPC gives it."""

ANYTHING = "*"
"""In what a request touches: more than VIPs, so that nobody with a list of VIPs may do it."""

_OPERATIONS = {field.message_type.full_name: field.name for field in Operation.DESCRIPTOR.fields if field.message_type}


def operations_in(request: Message) -> list[Operation]:
    """Return the operations that a request carries: itself, if it is the request of a single one."""
    match request:
        case ipvs_service_pb2.BatchApplyRequest():
            return list(request.operations)
        case transaction_service_pb2.PrepareTransactionRequest():
            return [*request.operations, *(each for part in request.following for each in part.operations)]
    name = _OPERATIONS.get(request.DESCRIPTOR.full_name)
    if name is None:
        return []
    operation = Operation()
    getattr(operation, name).CopyFrom(request)
    return [operation]


def needed_role(operations: Sequence[Operation]) -> Role:
    """Return the role that operations need together.

    What belongs to a backend is an operator's: its destination; beside it the virtual server that is made for it and
    for a VIP; one that goes because nothing uses it; a virtual server's hold on a VIP. What is forced is an admin's.
    """
    backends = _whole_backends(operations)
    return max((_needed(each, backends) for each in operations), default=Role.OPERATOR)


def needed_role_of(changes: Sequence[Change]) -> Role:
    """Return the role that is needed to take changes back: that of whoever could have made them."""
    return max((_needed_of(each, changes) for each in changes), default=Role.OPERATOR)


def touched(request: Message) -> Iterator[str]:
    """Say which VIPs a request that changes something is about: addresses, and fwmark/7; or ANYTHING."""
    match request:
        case drift_service_pb2.RepairDriftRequest():
            yield from (_drifted(each.drift) for each in request.repairs)
        case health_service_pb2.ProbeDestinationRequest():
            yield _key(request.virtual_server)
        case ipvs_service_pb2.ZeroCountersRequest():
            yield _key(request.key) if request.HasField("key") else ANYTHING
        case change_service_pb2.RevertChangeRequest():
            return  # the change says it
        case _:
            yield from touched_by(operations_in(request))


def touched_by(operations: Iterable[Operation]) -> Iterator[str]:
    """Say which VIPs operations are about."""
    for each in operations:
        name = each.WhichOneof("operation") or ""
        asked = getattr(each, name) if name else None
        match asked:
            case vip_pb2.CreateVipRequest():
                yield from (_address(asked.vip.address), *_held_for(asked.holder))
            case vip_pb2.DeleteVipRequest():
                yield from (_address(asked.address), *_held_for(asked.holder))
            case virtual_server_pb2.CreateVirtualServerRequest() | virtual_server_pb2.UpdateVirtualServerRequest():
                yield _key(asked.virtual_server.key)
            case virtual_server_pb2.DeleteVirtualServerRequest() | virtual_server_pb2.AdoptVirtualServerRequest():
                yield _key(asked.key)
            case _ if "destination" in name:
                yield _key(asked.virtual_server)  # type: ignore[union-attr]  # all requests of destinations name it
            case _:
                yield ANYTHING


def touched_of(changes: Iterable[Change]) -> Iterator[str]:
    """Say which VIPs changes are about."""
    for each in changes:
        match each.WhichOneof("resource"):
            case "destination":
                yield _key(each.destination.virtual_server)
            case "virtual_server":
                change = each.virtual_server
                yield _key((change.after if change.HasField("after") else change.before).key)
            case "vip":
                yield _address((each.vip.after if each.vip.HasField("after") else each.vip.before).address)
                yield from _held_for(each.vip.holder)
            case _:
                yield ANYTHING


def _whole_backends(operations: Sequence[Operation]) -> set[bytes]:
    """Return the virtual servers for which a destination and a VIP are asked for, and of which nothing goes.

    IPVS serves any address, also one that the director itself talks to: only with the VIP, which the agent asks the
    subnet for and adds, is it one that nobody else has.
    """
    named: dict[str, set[bytes]] = {"create_destination": set(), "create_vip": set(), "gone": set()}
    for each in operations:
        match each.WhichOneof("operation"):
            case "create_destination":
                named["create_destination"].add(_bytes(each.create_destination.virtual_server))
            case "create_vip":
                key = each.create_vip.holder.virtual_server.key
                if key.WhichOneof("key") == "firewall_mark" or _key(key) == _address(each.create_vip.vip.address):
                    named["create_vip"].add(_bytes(key))
            case "delete_destination":
                named["gone"].add(_bytes(each.delete_destination.virtual_server))
            case "delete_virtual_server":
                named["gone"].add(_bytes(each.delete_virtual_server.key))
    return (named["create_destination"] & named["create_vip"]) - named["gone"]


def _bytes(key: virtual_server_pb2.VirtualServerKey) -> bytes:
    return key.SerializeToString(deterministic=True)


def _needed(operation: Operation, backends: set[bytes]) -> Role:
    match operation.WhichOneof("operation"):
        case "create_destination" | "update_destination" | "delete_destination" | "adopt_destination":
            return Role.OPERATOR
        case "create_virtual_server":
            key = operation.create_virtual_server.virtual_server.key
            return Role.OPERATOR if _bytes(key) in backends else Role.ADMIN
        case "delete_virtual_server":
            asked = operation.delete_virtual_server
            return Role.OPERATOR if asked.only_if_unused and not asked.force else Role.ADMIN
        case "create_vip":
            asked_vip = operation.create_vip
            # The interface is where the agent asks whether another host has the address: whoever names it is believed.
            is_special = asked_vip.force or asked_vip.adopt or bool(asked_vip.vip.device)
            return _for_hold(asked_vip.holder, forced=is_special)
        case "delete_vip":
            return _for_hold(operation.delete_vip.holder, forced=operation.delete_vip.force)
        case _:
            return Role.ADMIN


def _needed_of(change: Change, changes: Sequence[Change]) -> Role:
    match change.WhichOneof("resource"):
        case "destination":
            return Role.OPERATOR
        case "vip":
            return _for_hold(change.vip.holder, forced=False)
        case "virtual_server":
            made = change.virtual_server
            key = made.after.key
            beside = any(each.destination.virtual_server == key for each in changes if each.HasField("destination"))
            return Role.OPERATOR if made.HasField("after") and not made.HasField("before") and beside else Role.ADMIN
        case _:
            return Role.ADMIN


def _for_hold(holder: vip_pb2.VipHolder, *, forced: bool) -> Role:
    is_backends = holder.WhichOneof("holder") == "virtual_server"
    return Role.OPERATOR if is_backends and not forced else Role.ADMIN


def _held_for(holder: vip_pb2.VipHolder) -> Iterator[str]:
    if holder.WhichOneof("holder") == "virtual_server":
        yield _key(holder.virtual_server.key)


def _key(key: virtual_server_pb2.VirtualServerKey) -> str:
    match key.WhichOneof("key"):
        case "service_address":
            return _address(key.service_address.address)
        case "firewall_mark":
            is_ipv6 = key.firewall_mark.family == virtual_server_pb2.ADDRESS_FAMILY_IPV6
            return f"fwmark{'6' if is_ipv6 else ''}/{key.firewall_mark.mark}"
        case _:
            return ANYTHING


def _drifted(drift: drift_service_pb2.Drift) -> str:
    match drift.WhichOneof("resource"):
        case "virtual_server":
            return _key(drift.virtual_server)
        case "destination":
            return _key(drift.destination.virtual_server)
        case "vip":
            return _address(drift.vip)
        case _:
            return ANYTHING


def _address(text: str) -> str:
    """Return an address as it is written everywhere; what is none is refused later, or now where VIPs are listed."""
    try:
        return str(ip_address(text))
    except ValueError:
        return ANYTHING
