"""What a request needs beside its RPC's role: by what it asks for, by force, by the VIPs that it is about."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.protobuf.message import Message
from lvsagent.v1 import (
    arp_pb2,
    change_service_pb2,
    drift_service_pb2,
    ipvs_service_pb2,
    table_pb2,
    transaction_pb2,
    transaction_service_pb2,
    vip_pb2,
    virtual_server_pb2,
)

from agent_common import wire
from agent_common.access import Access, Caller, Everybody, Remembered
from agent_common.destination import DestinationKey, Forwarding
from agent_common.errors import DeniedError, NotFoundError, Reason
from agent_common.identity import Role
from agent_common.operation import Change, Operation
from agent_common.roles import ANYTHING, needed_role, needed_role_of, operations_in, touched
from agent_common.virtual_server import VirtualServerKey, parse_key, parse_unicast
from cli import operations

WEB, OTHER, MARK = parse_key("tcp/192.168.0.200:80"), parse_key("tcp/192.168.0.201:80"), parse_key("fwmark6/7")
RS = DestinationKey(address=parse_unicast("192.168.0.104", "rs"), port=80)
VIP = "192.168.0.200"

ADD = operations.create_destination(WEB, RS, Forwarding.DIRECT_ROUTING, 1)
SILENCE = Operation(silence_arp=arp_pb2.SilenceArpRequest())
SERVER = operations.create_virtual_server(WEB, "rr", None)
BACKENDS_HOLD = vip_pb2.VipHolder(virtual_server=vip_pb2.VirtualServerHolder(key=wire.pack_key(WEB), authority="id"))
OPERATORS_HOLD = vip_pb2.VipHolder(operator="ada")


def create_vip(holder: vip_pb2.VipHolder, *, force: bool = False, adopt: bool = False, device: str = "") -> Operation:
    vip = vip_pb2.Vip(address=VIP, device=device)
    return Operation(create_vip=vip_pb2.CreateVipRequest(vip=vip, holder=holder, force=force, adopt=adopt))


def hold_for(address: str, key: VirtualServerKey) -> Operation:
    held = vip_pb2.VirtualServerHolder(key=wire.pack_key(key), authority="id")
    holder = vip_pb2.VipHolder(virtual_server=held)
    return Operation(create_vip=vip_pb2.CreateVipRequest(vip=vip_pb2.Vip(address=address), holder=holder))


def create_for(key: VirtualServerKey) -> Operation:
    return operations.create_virtual_server(key, None, None)


def delete_vip(holder: vip_pb2.VipHolder, *, force: bool = False) -> Operation:
    return Operation(delete_vip=vip_pb2.DeleteVipRequest(address=VIP, holder=holder, force=force))


@pytest.mark.parametrize(
    ("asked", "role"),
    [
        ([], Role.OPERATOR),
        ([ADD], Role.OPERATOR),
        ([operations.update_destination(WEB, RS, weight=7)], Role.OPERATOR),
        ([operations.delete_destination(WEB, RS)], Role.OPERATOR),
        ([SERVER], Role.ADMIN),
        ([SERVER, ADD], Role.ADMIN),
        ([SERVER, create_vip(BACKENDS_HOLD), ADD], Role.OPERATOR),
        ([SERVER, create_vip(OPERATORS_HOLD), ADD], Role.ADMIN),
        ([SERVER, hold_for("192.168.0.9", WEB), ADD], Role.ADMIN),
        (
            [create_for(MARK), hold_for("2001:db8::200", MARK), operations.create_destination(MARK, RS, None, None)],
            Role.OPERATOR,
        ),
        ([SERVER, create_vip(BACKENDS_HOLD), operations.create_destination(OTHER, RS, None, None)], Role.ADMIN),
        ([SERVER, create_vip(BACKENDS_HOLD), ADD, operations.delete_destination(WEB, RS)], Role.ADMIN),
        (
            [operations.delete_virtual_server(WEB, only_if_unused=True), SERVER, create_vip(BACKENDS_HOLD), ADD],
            Role.ADMIN,
        ),
        ([operations.delete_virtual_server(WEB)], Role.ADMIN),
        ([operations.delete_virtual_server(WEB, only_if_unused=True)], Role.OPERATOR),
        ([operations.delete_virtual_server(WEB, only_if_unused=True, force=True)], Role.ADMIN),
        ([create_vip(BACKENDS_HOLD)], Role.OPERATOR),
        ([create_vip(BACKENDS_HOLD, force=True)], Role.ADMIN),
        ([create_vip(OPERATORS_HOLD)], Role.ADMIN),
        ([create_vip(BACKENDS_HOLD, adopt=True)], Role.ADMIN),
        ([create_vip(BACKENDS_HOLD, device="lo")], Role.ADMIN),
        ([create_vip(vip_pb2.VipHolder())], Role.ADMIN),
        ([delete_vip(BACKENDS_HOLD)], Role.OPERATOR),
        ([delete_vip(BACKENDS_HOLD, force=True)], Role.ADMIN),
        ([delete_vip(OPERATORS_HOLD)], Role.ADMIN),
        ([Operation()], Role.ADMIN),
        ([ADD, Operation(apply_table=table_pb2.WantedTable())], Role.ADMIN),
        ([SILENCE], Role.ADMIN),
    ],
)
def test_what_belongs_to_a_backend_is_an_operators_and_all_else_an_admins(
    asked: Sequence[Operation], role: Role
) -> None:
    """A virtual server only beside its destination and for a VIP that is asked for; what is forced is an admin's."""
    assert needed_role(asked) is role


def test_every_operation_has_a_role_in_a_batch_a_transaction_and_alone() -> None:
    """Whatever carries it: also what is to follow a decision."""
    for field in Operation.DESCRIPTOR.fields:
        operation = Operation()
        getattr(operation, field.name).SetInParent()
        alone = getattr(operation, field.name)
        following = transaction_pb2.Following(operations=[operation])
        for request in (
            alone,
            ipvs_service_pb2.BatchApplyRequest(operations=[operation]),
            transaction_service_pb2.PrepareTransactionRequest(operations=[operation]),
            transaction_service_pb2.PrepareTransactionRequest(following=[following]),
        ):
            assert operations_in(request) == [operation], field.name


def repairs(*drifts: drift_service_pb2.Drift) -> drift_service_pb2.RepairDriftRequest:
    return drift_service_pb2.RepairDriftRequest(repairs=[drift_service_pb2.Repair(drift=each) for each in drifts])


@pytest.mark.parametrize(
    ("request_", "vips"),
    [
        (ADD.create_destination, {VIP}),
        (create_vip(BACKENDS_HOLD).create_vip, {VIP}),
        (vip_pb2.CreateVipRequest(vip=vip_pb2.Vip(address="192.168.0.9"), holder=BACKENDS_HOLD), {"192.168.0.9", VIP}),
        (vip_pb2.DeleteVipRequest(address="2001:DB8::0:200", holder=OPERATORS_HOLD), {"2001:db8::200"}),
        (vip_pb2.DeleteVipRequest(address="nonsense"), {ANYTHING}),
        (operations.delete_destination(MARK, RS).delete_destination, {"fwmark6/7"}),
        (virtual_server_pb2.DeleteVirtualServerRequest(), {ANYTHING}),
        (ipvs_service_pb2.ZeroCountersRequest(), {ANYTHING}),
        (ipvs_service_pb2.ZeroCountersRequest(key=wire.pack_key(WEB)), {VIP}),
        (
            ipvs_service_pb2.BatchApplyRequest(operations=[ADD, Operation(silence_arp=arp_pb2.SilenceArpRequest())]),
            {VIP, ANYTHING},
        ),
        (
            repairs(drift_service_pb2.Drift(vip=VIP), drift_service_pb2.Drift(virtual_server=wire.pack_key(OTHER))),
            {VIP, "192.168.0.201"},
        ),
        (repairs(drift_service_pb2.Drift(arp_interface="eth0")), {ANYTHING}),
    ],
)
def test_a_request_says_which_vips_it_is_about(request_: Message, vips: set[str]) -> None:
    """As addresses are written everywhere; what names none is about more than VIPs."""
    assert set(touched(request_)) == vips


def change(**resource: object) -> Change:
    return Change(**resource)  # type: ignore[arg-type]  # one of the fields of the oneof


SERVER_MADE = change(virtual_server={"after": {"key": wire.pack_key(WEB)}})
SERVER_GONE = change(virtual_server={"before": {"key": wire.pack_key(WEB)}})
BACKEND_MADE = change(destination={"virtual_server": wire.pack_key(WEB)})


@pytest.mark.parametrize(
    ("changes", "role"),
    [
        ([], Role.OPERATOR),
        ([BACKEND_MADE], Role.OPERATOR),
        ([SERVER_MADE], Role.ADMIN),
        ([SERVER_MADE, BACKEND_MADE], Role.OPERATOR),
        ([SERVER_GONE, BACKEND_MADE], Role.ADMIN),
        ([change(vip={"holder": BACKENDS_HOLD})], Role.OPERATOR),
        ([change(vip={"holder": OPERATORS_HOLD})], Role.ADMIN),
        ([change(arp={})], Role.ADMIN),
        ([change(timeouts={})], Role.ADMIN),
        ([change(table={})], Role.ADMIN),
    ],
)
def test_a_change_is_taken_back_by_whoever_could_have_made_it(changes: Sequence[Change], role: Role) -> None:
    """Its name alone is no permission."""
    assert needed_role_of(changes) is role


def access(asked: Sequence[Operation] | None = None, changes: Sequence[Change] = ()) -> Access:
    """An agent that remembers a transaction and a change of any name."""

    async def operations_of(name: str) -> Sequence[Operation] | None:
        return asked

    async def changes_of(name: str) -> Sequence[Change]:
        return changes

    everybody = Everybody(name="x", role=Role.ADMIN)
    return Access(everybody, Remembered(operations=operations_of, changes=changes_of))


OPERATOR = Caller(name="op", role=Role.OPERATOR)
LIMITED = Caller(name="op", role=Role.OPERATOR, vips=frozenset({VIP}))
COMMIT = transaction_service_pb2.CommitTransactionRequest(transaction_id="t")
REVERT = change_service_pb2.RevertChangeRequest(change_id="c")


async def test_a_transaction_is_carried_on_by_whoever_could_have_begun_it() -> None:
    """It has only a name in the request; the agent remembers what it is about."""
    await access([SERVER, create_vip(BACKENDS_HOLD), ADD]).check(OPERATOR, COMMIT)
    await access([ADD]).check(LIMITED, COMMIT)
    with pytest.raises(DeniedError) as caught:
        await access([SERVER]).check(OPERATOR, COMMIT)
    assert (caught.value.reason, caught.value.metadata) == (
        Reason.ROLE_TOO_LOW,
        {"role": "operator", "needed": "admin"},
    )
    with pytest.raises(DeniedError, match=r"cannot change 192\.168\.0\.201: op may change 192\.168\.0\.200 only"):
        await access([operations.delete_destination(OTHER, RS)]).check(LIMITED, COMMIT)


async def test_a_transaction_that_asks_nothing_here_is_not_decided_by_an_operator_with_a_list() -> None:
    """What it is about stands at other agents."""
    await access([]).check(OPERATOR, COMMIT)
    with pytest.raises(DeniedError):
        await access([]).check(LIMITED, COMMIT)


async def test_a_transaction_that_is_not_known_yet_is_not_decided_by_who_was_not_asked_what_it_is_about() -> None:
    """Its prepare may be under way; an abort is remembered, as any coordinator's must be."""
    with pytest.raises(NotFoundError):
        await access(None).check(OPERATOR, COMMIT)
    await access(None).check(OPERATOR, transaction_service_pb2.AbortTransactionRequest(transaction_id="t"))


async def test_a_change_of_another_vip_is_not_taken_back_by_an_operator_with_a_list() -> None:
    await access(changes=[BACKEND_MADE]).check(LIMITED, REVERT)
    with pytest.raises(DeniedError):
        await access(changes=[change(destination={"virtual_server": wire.pack_key(OTHER)})]).check(LIMITED, REVERT)
    with pytest.raises(DeniedError):
        await access(changes=[SERVER_MADE]).check(OPERATOR, REVERT)


async def test_a_list_of_vips_binds_an_operator_in_every_request() -> None:
    """Whatever else is in it."""
    await access().check(LIMITED, ADD.create_destination)
    await access().check(OPERATOR, operations.delete_destination(OTHER, RS).delete_destination)
    for refused in (
        operations.delete_destination(OTHER, RS).delete_destination,
        ipvs_service_pb2.BatchApplyRequest(operations=[ADD, operations.delete_destination(MARK, RS)]),
        ipvs_service_pb2.ZeroCountersRequest(),
    ):
        with pytest.raises(DeniedError) as caught:
            await access().check(LIMITED, refused)
        assert caught.value.reason is Reason.VIP_NOT_ALLOWED


async def test_an_empty_list_of_vips_is_no_vip_at_all() -> None:
    nothing = Caller(name="op", role=Role.OPERATOR, vips=frozenset())
    with pytest.raises(DeniedError, match="may change no VIP only"):
        await access().check(nothing, ADD.create_destination)
