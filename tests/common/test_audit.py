"""Who has changed what: a record of each call, in the agent's file, in the journal, and over gRPC."""

from __future__ import annotations

import json
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from lvsagent.v1 import audit_service_pb2, audit_service_pb2_grpc, ipvs_service_pb2_grpc, vip_service_pb2_grpc
from lvsagent.v1.transaction_service_pb2_grpc import TransactionServiceStub

from agent_common.access import Access, Caller, Everybody
from agent_common.audit import MAX_REQUEST, AuditRecord, Ended, audit_record, matches
from agent_common.audit_file import open_audit
from agent_common.audit_log import AuditLog
from agent_common.errors import ConflictError, InvalidInputError, Reason
from agent_common.grpc_errors import from_rpc_error
from agent_common.handlers import Handlers
from agent_common.identity import Role
from agent_common.journal import Journal
from tests.common import asking
from tests.common.asking import filled
from tests.serving import services

ADA = Caller(name="spiffe://example.org/lvs/admin/ada", role=Role.ADMIN)


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A director with an audit in a folder, called by Ada."""
    file = open_audit(tmp_path)
    handlers = Handlers(AuditLog(file).record)
    everybody = Everybody(name=ADA.name, role=ADA.role)
    server = handlers.make_server(Access(everybody), services(asking.director(), audit=file))
    server.add_insecure_port(f"unix:{tmp_path}/api.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/api.sock") as opened:
        yield opened
    await server.stop(None)


async def listed(channel: grpc.aio.Channel, **asked: object) -> list[AuditRecord]:
    stub = audit_service_pb2_grpc.AuditServiceStub(channel)
    request = audit_service_pb2.ListAuditRequest(**asked)  # type: ignore[arg-type]  # whatever a test gives
    return list((await stub.ListAudit(request)).records)


async def ask(channel: grpc.aio.Channel, name: str, stub: object) -> None:
    """Make one of the calls of tests.common.asking."""
    from google.protobuf.message_factory import GetMessageClass
    from lvsagent.v1 import ipvs_service_pb2, transaction_service_pb2, vip_service_pb2

    service, method = name.split("/")
    for module in (ipvs_service_pb2, vip_service_pb2, transaction_service_pb2):
        if service in module.DESCRIPTOR.services_by_name:
            found = module.DESCRIPTOR.services_by_name[service].methods_by_name[method]
            request = filled(GetMessageClass(found.input_type)(), asking.DIRECTOR[name])
            await getattr(stub, method)(request)


async def test_a_change_is_recorded_with_who_what_before_after_and_outcome(channel: grpc.aio.Channel) -> None:
    ipvs = ipvs_service_pb2_grpc.IpvsServiceStub(channel)
    await ask(channel, "IpvsService/CreateVirtualServer", ipvs)
    await ask(channel, "IpvsService/CreateDestination", ipvs)
    await ask(channel, "IpvsService/UpdateDestination", ipvs)
    newest, created, server = await listed(channel)
    assert (newest.caller, newest.role, newest.method) == (ADA.name, "admin", "IpvsService/UpdateDestination")
    assert newest.peer.startswith("unix")
    assert newest.outcome == "ok"
    (change,) = newest.changes
    assert change.resource == "tcp/192.168.0.200:80 192.168.0.104:80"
    assert (json.loads(change.before)["weight"], json.loads(change.after)["weight"]) == (1, 7)
    assert json.loads(newest.request)["update_mask"] == "weight"
    assert created.changes[0].before == ""
    assert server.changes[0].resource == "tcp/192.168.0.200:80"
    assert newest.time.ToNanoseconds() >= created.time.ToNanoseconds() >= server.time.ToNanoseconds() > 0


async def test_a_transaction_is_recorded_by_its_name(channel: grpc.aio.Channel) -> None:
    await ask(channel, "TransactionService/PrepareTransaction", TransactionServiceStub(channel))
    (record,) = await listed(channel, containing="t")
    assert (record.transaction_id, record.method) == ("t", "TransactionService/PrepareTransaction")
    assert [each.resource for each in record.changes] == ["vip/192.168.0.200"]


async def test_what_fails_is_recorded_with_its_reason_and_what_only_validates_is_not(channel: grpc.aio.Channel) -> None:
    from lvsagent.v1 import vip_pb2

    vips = vip_service_pb2_grpc.VipServiceStub(channel)
    await vips.CreateVip(
        vip_pb2.CreateVipRequest(vip={"address": "192.168.0.205"}, holder={"operator": "ada"}, validate_only=True)  # type: ignore[arg-type]
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await vips.CreateVip(vip_pb2.CreateVipRequest(vip={"address": "nonsense"}))  # type: ignore[arg-type]
    (record,) = await listed(channel)
    assert (record.outcome, list(record.changes)) == ("INVALID_FIELD", [])
    assert record.message.startswith("holder: must be set")


async def test_records_come_in_pages_the_newest_first(channel: grpc.aio.Channel, tmp_path: Path) -> None:
    for number in range(5):
        open_audit(tmp_path).append(AuditRecord(method=f"m{number}", caller="ada" if number % 2 else "bob"))
    stub = audit_service_pb2_grpc.AuditServiceStub(channel)
    seen, token = [], ""
    while True:
        request = audit_service_pb2.ListAuditRequest(page_size=2, page_token=token)
        answer = await stub.ListAudit(request)
        seen += [each.method for each in answer.records]
        token = answer.next_page_token
        if not token:
            break
    assert seen == ["m4", "m3", "m2", "m1", "m0"]
    assert [each.method for each in await listed(channel, containing="ada")] == ["m3", "m1"]
    for wrong in ("x", "-1", "²"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(channel, page_token=wrong)
        error = from_rpc_error(caught.value)
        assert isinstance(error, InvalidInputError)
        assert error.field == "page_token"


def test_a_record_is_bounded_however_long_the_request(tmp_path: Path) -> None:
    """Thousands of things in one change, and a text without end."""
    from lvsagent.v1 import change_service_pb2, ipvs_service_pb2

    request = change_service_pb2.RevertChangeRequest(change_id="x" * 100_000)
    answer = ipvs_service_pb2.BatchApplyResponse()
    for number in range(3000):
        change = answer.results.add().change
        change.made = True
        change.vip.after.address = f"10.0.{number // 250}.{number % 250}"
    record = audit_record(
        Ended(caller=ADA, peer="p", method="m", request=request, answer=answer, error=None, seconds=1.5, now=1e9)
    )
    assert len(record.request) == MAX_REQUEST
    assert record.changes[-1].resource == "and 2900 more"
    assert record.duration.ToTimedelta().total_seconds() == 1.5


def test_names_and_messages_that_callers_choose_are_cut() -> None:
    """Else a few calls would wash out all other records."""
    from lvsagent.v1 import transaction_service_pb2

    long = "x" * 100_000
    request = transaction_service_pb2.AbortTransactionRequest(transaction_id=long)
    error = InvalidInputError("transaction_id", long)
    ended = Ended(caller=ADA, peer="p", method="m", request=request, answer=None, error=error, seconds=0, now=0)
    assert audit_record(ended).ByteSize() < 10_000


def test_a_defect_is_recorded_as_one() -> None:
    ended = Ended(caller=ADA, peer="p", method="m", request=None, answer=None, error=None, seconds=0, now=0)
    assert audit_record(ended).outcome == "INTERNAL"


class TestFile:
    """audit.jsonl and what was before it."""

    def test_its_size_is_bounded_and_the_newest_are_kept(self, tmp_path: Path) -> None:
        file = open_audit(tmp_path, max_bytes=10_000)
        for number in range(1000):
            file.append(AuditRecord(method=f"m{number}"))
        sizes = [each.stat().st_size for each in tmp_path.iterdir()]
        assert len(sizes) == 2
        assert max(sizes) <= 10_000
        kept = [record.method for _, record in file.newest_first()]
        assert kept == [f"m{number}" for number in range(999, 999 - len(kept), -1)]
        assert len(kept) > 100

    def test_it_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        open_audit(tmp_path).append(AuditRecord())
        assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600

    def test_a_line_that_a_crash_has_cut_off_costs_only_itself(self, tmp_path: Path) -> None:
        """And numbers go on after those that are there."""
        file = open_audit(tmp_path)
        for number in range(3):
            file.append(AuditRecord(method=f"m{number}"))
        path = tmp_path / "audit.jsonl"
        path.write_bytes(path.read_bytes()[:-10])
        again = open_audit(tmp_path)
        again.append(AuditRecord(method="m3"))
        assert [record.method for _, record in again.newest_first()] == ["m3", "m1", "m0"]

    @pytest.mark.parametrize(
        "junk", [b"\xff\xfe", b"[]", b"3", b'{"number": "x"}', b'{"number": 1, "nothing": 2}', b""]
    )
    def test_junk_in_it_is_left_out(self, tmp_path: Path, junk: bytes) -> None:
        (tmp_path / "audit.jsonl").write_bytes(junk + b"\n")
        file = open_audit(tmp_path)
        file.append(AuditRecord(method="m"))
        assert [record.method for _, record in file.newest_first()] == ["m"]

    def test_a_full_disk_costs_the_record_and_not_the_change(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "audit.jsonl").mkdir()
        open_audit(tmp_path / "gone").append(AuditRecord(method="m"))
        assert "cannot write a record to audit.jsonl" in caplog.text


def test_the_journal_gets_named_fields_with_any_text_in_them(tmp_path: Path) -> None:
    """As its native protocol has it: name, length, value."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        log = AuditLog(None, Journal("lvs-director", tmp_path / "socket"))
        error = ConflictError("it is\nlocked", Reason.LOCKED)
        ended = Ended(caller=ADA, peer="p", method="m", request=None, answer=None, error=error, seconds=0, now=0)
        log.record(audit_record(ended))
        fields = parsed(journal.recv(65536))
    assert fields["SYSLOG_IDENTIFIER"] == "lvs-director"
    assert fields["LVS_CALLER"] == ADA.name
    assert fields["LVS_ROLE"] == "admin"
    assert fields["LVS_OUTCOME"] == "LOCKED"
    assert fields["LVS_MESSAGE"] == "it is\nlocked"
    assert fields["MESSAGE"].startswith("change method=m peer=p caller=")


def parsed(datagram: bytes) -> dict[str, str]:
    """Read a datagram as systemd does."""
    fields = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        (length,) = struct.unpack("<Q", rest[:8])
        fields[name.decode()] = rest[8 : 8 + length].decode()
        datagram = rest[8 + length + 1 :]
    return fields


def test_without_a_journal_it_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    AuditLog(None, Journal("lvs-director", tmp_path / "gone")).record(AuditRecord(method="m"))
    assert "change method=m" in caplog.text


def test_records_are_found_by_what_they_are_about() -> None:
    record = AuditRecord(caller=ADA.name, method="IpvsService/X", transaction_id="t-1")
    record.changes.add(resource="vip/192.168.0.200")
    for text in ("ada", "IpvsService", "t-1", "192.168.0.200"):
        assert matches(record, text)
    assert not matches(record, "bob")
