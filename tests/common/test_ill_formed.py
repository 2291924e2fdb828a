"""Messages that no client of ours sends: refused with the field that is at fault, and in words of ours alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lvsagent.v1 import (
    audit_service_pb2,
    ipvs_service_pb2,
    sync_daemon_pb2,
    timeouts_pb2,
    transaction_service_pb2,
    virtual_server_pb2,
)

from agent_common.errors import InvalidInputError
from agent_common.grpc_errors import from_rpc_error
from agent_common.identity import Kind
from agent_common.well_formed import check_well_formed
from tests.common import asking
from tests.fuzz.agents import serving

IPVS, SETTINGS = "/lvsagent.v1.IpvsService", "/lvsagent.v1.IpvsSettingsService"
TRANSACTIONS, AUDIT = "/lvsagent.v1.TransactionService", "/lvsagent.v1.AuditService"
GARBAGE = b"\xff" * 16


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        serving(asking.director(), Kind.DIRECTOR, tmp_path) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        yield channel


async def refused(channel: grpc.aio.Channel, path: str, data: bytes, *, stream: bool = False) -> grpc.aio.AioRpcError:
    """Send bytes as a message, or as the only one of a stream; how it was refused."""
    make: Any = channel.stream_unary if stream else channel.unary_unary
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await make(path)(iter([data]) if stream else data, timeout=5)
    return caught.value


async def field_at_fault(channel: grpc.aio.Channel, path: str, request: Message) -> str:
    raw = await refused(channel, path, request.SerializeToString())
    assert raw.code() is grpc.StatusCode.INVALID_ARGUMENT, raw
    error = from_rpc_error(raw)
    assert isinstance(error, InvalidInputError)
    return error.field


@pytest.mark.parametrize(
    ("path", "stream"),
    [(f"{IPVS}/GetIpvs", False), (f"{IPVS}/BatchApply", True), ("/grpc.health.v1.Health/Check", False)],
)
async def test_bytes_that_are_no_message_are_refused_in_our_words(
    channel: grpc.aio.Channel, path: str, stream: bool
) -> None:
    """Not with the name and text of an exception."""
    raw = await refused(channel, path, GARBAGE, stream=stream)
    assert raw.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(raw)
    assert isinstance(error, InvalidInputError)
    assert error.message == "request: these bytes are no message of this RPC"


async def test_an_rpc_that_a_service_lacks_is_unimplemented_and_no_text_of_an_exception(
    channel: grpc.aio.Channel,
) -> None:
    """grpcio's health service has no List."""
    raw = await refused(channel, "/grpc.health.v1.Health/List", b"")
    assert raw.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raw.details() == "grpc.health.v1.Health.List is not served here"


async def test_durations_that_are_none_are_refused_with_their_field(channel: grpc.aio.Channel) -> None:
    """Too large for a number of days they were a defect; with a wrong fraction the audit could not write them down."""
    lease = transaction_service_pb2.RenewTransactionRequest(transaction_id="t", lease=Duration(seconds=2**62))
    assert await field_at_fault(channel, f"{TRANSACTIONS}/RenewTransaction", lease) == "lease"
    timeouts = timeouts_pb2.Timeouts(tcp=Duration(seconds=900, nanos=-1))
    request = timeouts_pb2.UpdateTimeoutsRequest(timeouts=timeouts)
    assert await field_at_fault(channel, f"{SETTINGS}/UpdateTimeouts", request) == "timeouts.tcp"


async def test_a_time_that_is_none_is_refused(channel: grpc.aio.Channel) -> None:
    request = audit_service_pb2.ListAuditRequest(since=Timestamp(nanos=-1))
    assert await field_at_fault(channel, f"{AUDIT}/ListAudit", request) == "since"


async def test_a_mask_with_what_is_no_name_of_a_field_is_refused(channel: grpc.aio.Channel) -> None:
    request = virtual_server_pb2.UpdateVirtualServerRequest(update_mask=FieldMask(paths=["scheduler", "Ä"]))
    assert await field_at_fault(channel, f"{IPVS}/UpdateVirtualServer", request) == "update_mask"


async def test_a_page_token_of_thousands_of_digits_is_refused(channel: grpc.aio.Channel) -> None:
    """Python refuses to read such a number, which was a defect."""
    request = audit_service_pb2.ListAuditRequest(page_token="9" * 5000)
    assert await field_at_fault(channel, f"{AUDIT}/ListAudit", request) == "page_token"


async def test_an_interface_with_a_nul_in_its_name_is_refused(channel: grpc.aio.Channel) -> None:
    request = asking.filled(
        sync_daemon_pb2.StartSyncDaemonRequest(), 'daemon { role: SYNC_ROLE_MASTER interface: "a\\000b" }'
    )
    assert await field_at_fault(channel, f"{SETTINGS}/StartSyncDaemon", request) == "interface"


def nested() -> Iterator[tuple[Message, str]]:
    """Ill-formed values in depth, and where they are."""
    create = ipvs_service_pb2.BatchApplyRequest()
    operation = create.operations.add()
    operation = create.operations.add()
    operation.create_virtual_server.virtual_server.persistence.timeout.nanos = 10**9
    yield create, "operations.create_virtual_server.virtual_server.persistence.timeout"
    prepare = transaction_service_pb2.PrepareTransactionRequest()
    prepare.following.add().operations.add().update_virtual_server.update_mask.paths.append("a..b")
    yield prepare, "following.operations.update_virtual_server.update_mask"


@pytest.mark.parametrize(("message", "field"), list(nested()), ids=lambda each: str(each)[:20])
def test_what_is_ill_formed_is_found_in_any_depth(message: Message, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_well_formed(message)
    assert caught.value.field == field


@pytest.mark.parametrize("duration", [Duration(), Duration(seconds=-5, nanos=-1), Duration(seconds=315_576_000_000)])
def test_what_is_well_formed_is_let_through(duration: Duration) -> None:
    """Whether it is in the range of its field is not asked here."""
    mask = FieldMask(paths=["weight", "virtual_server.scheduler_flags"])
    check_well_formed(transaction_service_pb2.RenewTransactionRequest(lease=duration))
    check_well_formed(virtual_server_pb2.UpdateVirtualServerRequest(update_mask=mask))


async def test_an_error_about_a_long_text_arrives(channel: grpc.aio.Channel) -> None:
    """A client takes 8 KiB of headers, in which an error comes; a longer one was RESOURCE_EXHAUSTED there."""
    for text in ("x" * 10_000, "é" * 10_000, "\0%" * 5000):
        request = ipvs_service_pb2.GetVirtualServerRequest()
        request.key.service_address.protocol = virtual_server_pb2.PROTOCOL_TCP
        request.key.service_address.address = text
        assert await field_at_fault(channel, f"{IPVS}/GetVirtualServer", request) == "key.service_address.address"
