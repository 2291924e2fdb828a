"""Agents on fakes, served over unix sockets and called with the generated stubs: the whole wire, without a kernel."""

from __future__ import annotations

import asyncio
import logging
import signal
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from lvsagent.v1 import (
    arp_pb2,
    arp_service_pb2,
    arp_service_pb2_grpc,
    change_service_pb2,
    change_service_pb2_grpc,
    destination_pb2,
    host_service_pb2,
    host_service_pb2_grpc,
    ipvs_service_pb2,
    ipvs_service_pb2_grpc,
    table_pb2,
    vip_service_pb2,
    vip_service_pb2_grpc,
    virtual_server_pb2,
)

from agent_common import wire
from agent_common.agent import agent_id, serve
from agent_common.agent_settings import AgentSettings
from agent_common.endpoint import Endpoint
from agent_common.errors import InvalidInputError, LvsError, NotFoundError, Reason
from agent_common.fake_state import FakeState
from agent_common.grpc_errors import from_item, from_rpc_error
from agent_common.identity import Kind
from agent_common.paging import MAX_PAGE
from agent_common.sockets import Listener
from agent_common.version import VERSION
from agent_common.vip import VirtualServerHolder
from agent_common.virtual_server import Protocol, VirtualServer, VirtualServerKey, parse_key
from agent_common.wire_table import unpack_steps
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import KEYS, destination
from tests.hosts import VIP, VIP6, WEB, DirectorHost, RealServerHost, holder
from tests.serving import Host, served, services

OWN = "192.168.0.104"
"""The real server's own address."""

DIRECTOR_SERVICES = {
    "AuditService",
    "IpvsService",
    "IpvsSettingsService",
    "VipService",
    "ChangeService",
    "DriftService",
    "HealthService",
    "TransactionService",
    "HostService",
}
REAL_SERVER_SERVICES = {
    "BackendService",
    "AuditService",
    "VipService",
    "ArpService",
    "ChangeService",
    "DriftService",
    "TransactionService",
    "HostService",
}


class Agent:
    """An agent that is served, and a connection to it."""

    def __init__(self, host: Host, channel: grpc.aio.Channel) -> None:
        self.host = host
        self.channel = channel
        self.ipvs = ipvs_service_pb2_grpc.IpvsServiceStub(channel)
        self.vips = vip_service_pb2_grpc.VipServiceStub(channel)
        self.arp = arp_service_pb2_grpc.ArpServiceStub(channel)
        self.changes = change_service_pb2_grpc.ChangeServiceStub(channel)
        self.hosts = host_service_pb2_grpc.HostServiceStub(channel)


@pytest.fixture
async def director(tmp_path: Path) -> AsyncIterator[Agent]:
    host = DirectorHost()
    async with served(tmp_path / "d", services(host, "id-1")), grpc.aio.insecure_channel(f"unix:{tmp_path}/d") as to:
        yield Agent(host, to)


@pytest.fixture
async def rs(tmp_path: Path) -> AsyncIterator[Agent]:
    host = RealServerHost()
    async with served(tmp_path / "r", services(host, "id-2")), grpc.aio.insecure_channel(f"unix:{tmp_path}/r") as to:
        yield Agent(host, to)


def kernel(agent: Agent) -> DirectorHost:
    assert isinstance(agent.host, DirectorHost)
    return agent.host


async def error_of(call: grpc.aio.UnaryUnaryCall) -> LvsError:  # type: ignore[type-arg]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert error is not None, caught.value
    return error


def create_web(**fields: object) -> virtual_server_pb2.CreateVirtualServerRequest:
    server = virtual_server_pb2.VirtualServer(key=wire.pack_key(WEB))
    return virtual_server_pb2.CreateVirtualServerRequest(virtual_server=server, **fields)  # type: ignore[arg-type]


def every_method(host: Host) -> list[MethodDescriptor]:
    return [method for service in services(host) for method in service.descriptor.methods]


@pytest.mark.parametrize(
    ("host", "names"), [(DirectorHost(), DIRECTOR_SERVICES), (RealServerHost(), REAL_SERVER_SERVICES)]
)
def test_each_agent_has_its_services(host: Host, names: set[str]) -> None:
    assert {service.descriptor.name for service in services(host)} == names


@pytest.mark.parametrize("host", [DirectorHost(), RealServerHost()])
async def test_every_rpc_of_every_service_is_there_and_takes_an_empty_request(host: Host, tmp_path: Path) -> None:
    """Answered, or refused with an error of ours: never unimplemented, never a defect."""
    async with served(tmp_path / "a", services(host)), grpc.aio.insecure_channel(f"unix:{tmp_path}/a") as channel:
        for method in every_method(host):
            path = f"/{method.containing_service.full_name}/{method.name}"
            request = GetMessageClass(method.input_type)()
            write, read = type(request).SerializeToString, GetMessageClass(method.output_type).FromString
            try:
                if method.client_streaming:
                    await channel.stream_unary(path, write, read)(iter([request]), timeout=5)
                else:
                    await channel.unary_unary(path, write, read)(request, timeout=5)
            except grpc.aio.AioRpcError as error:
                ours = from_rpc_error(error)
                assert ours is not None, (path, error.code(), error.details())
                assert ours.reason is not Reason.INTERNAL, (path, ours.message)


class TestDirector:
    """Virtual servers, destinations and VIPs over the wire."""

    async def test_a_whole_life_of_a_virtual_server(self, director: Agent) -> None:
        made = await director.ipvs.CreateVirtualServer(create_web(change_id="c1"))
        assert (made.change.made, made.change.id) == (True, "c1")
        create = operations.create_destination(WEB, destination().key, None, 5).create_destination
        await director.ipvs.CreateDestination(create)
        got = await director.ipvs.GetVirtualServer(ipvs_service_pb2.GetVirtualServerRequest(key=wire.pack_key(WEB)))
        assert got.status.managed
        assert [each.current_weight for each in got.destinations] == [5]
        update = operations.update_destination(WEB, destination().key, draining=True).update_destination
        update.etag = got.destinations[0].etag
        assert (await director.ipvs.UpdateDestination(update)).change.made
        one = await director.ipvs.GetDestination(
            ipvs_service_pb2.GetDestinationRequest(
                virtual_server=wire.pack_key(WEB), destination=wire.pack_destination_key(destination().key)
            )
        )
        assert (one.status.destination.draining, one.status.destination.weight, one.status.current_weight) == (
            True,
            5,
            0,
        )
        assert one.status.etag != got.destinations[0].etag
        delete = operations.delete_destination(WEB, destination().key).delete_destination
        assert (await director.ipvs.DeleteDestination(delete)).change.made
        gone = virtual_server_pb2.DeleteVirtualServerRequest(key=wire.pack_key(WEB))
        assert (await director.ipvs.DeleteVirtualServer(gone)).change.made
        assert table(kernel(director).ipvs) == {}

    async def test_a_change_is_reverted_by_name(self, director: Agent) -> None:
        await director.ipvs.CreateVirtualServer(create_web(change_id="c1"))
        request = change_service_pb2.RevertChangeRequest(change_id="c1")
        answer = await director.changes.RevertChange(request)
        assert answer.outcome == change_service_pb2.REVERT_OUTCOME_REVERTED
        assert list(answer.details) == [f"removed virtual server {WEB}"]
        again = await director.changes.RevertChange(request)
        assert again.outcome == change_service_pb2.REVERT_OUTCOME_NOTHING
        assert (await error_of(director.ipvs.CreateVirtualServer(create_web(change_id="c1")))).reason is (
            Reason.CHANGE_REVERTED
        )

    async def test_a_revert_must_name_its_change(self, director: Agent) -> None:
        error = await error_of(director.changes.RevertChange(change_service_pb2.RevertChangeRequest()))
        assert (type(error), error.field) == (InvalidInputError, "change_id")

    async def test_what_others_use_by_now_is_said_to_be_kept(self, director: Agent) -> None:
        await director.ipvs.CreateVirtualServer(create_web(change_id="c1"))
        kernel(director).ipvs.add_destination(WEB, destination())
        answer = await director.changes.RevertChange(change_service_pb2.RevertChangeRequest(change_id="c1"))
        assert answer.outcome == change_service_pb2.REVERT_OUTCOME_KEPT

    async def test_validate_only_changes_nothing(self, director: Agent) -> None:
        answer = await director.ipvs.CreateVirtualServer(create_web(validate_only=True))
        assert answer.change.made
        assert table(kernel(director).ipvs) == {}

    async def test_an_error_comes_with_reason_and_names(self, director: Agent) -> None:
        request = ipvs_service_pb2.GetVirtualServerRequest(key=wire.pack_key(WEB))
        error = await error_of(director.ipvs.GetVirtualServer(request))
        assert (type(error), error.reason) == (NotFoundError, Reason.VIRTUAL_SERVER_NOT_FOUND)
        assert error.metadata == {"virtual_server": str(WEB)}

    async def test_lists_come_in_pages(self, director: Agent) -> None:
        for key in KEYS:
            kernel(director).ipvs.add_virtual_server(VirtualServer(key=key))
        found, token = [], ""
        for _ in range(len(KEYS)):
            page = await director.ipvs.ListVirtualServers(
                ipvs_service_pb2.ListVirtualServersRequest(page_size=4, page_token=token)
            )
            found += [wire.unpack_key(each.virtual_server.key) for each in page.virtual_servers]
            token = page.next_page_token
            if not token:
                break
        whole = await director.ipvs.ListVirtualServers(ipvs_service_pb2.ListVirtualServersRequest())
        assert found == [wire.unpack_key(each.virtual_server.key) for each in whole.virtual_servers]
        assert set(found) == set(KEYS)
        assert whole.next_page_token == ""

    async def test_a_page_that_cannot_be_is_refused(self, director: Agent) -> None:
        for request, field in (
            (ipvs_service_pb2.ListVirtualServersRequest(page_size=MAX_PAGE + 1), "page_size"),
            (ipvs_service_pb2.ListVirtualServersRequest(page_token=str(WEB)), "page_token"),
        ):
            assert (await error_of(director.ipvs.ListVirtualServers(request))).field == field

    async def test_destinations_of_what_is_not_there_are_an_error_not_an_empty_list(self, director: Agent) -> None:
        request = ipvs_service_pb2.ListDestinationsRequest(virtual_server=wire.pack_key(WEB))
        assert isinstance(await error_of(director.ipvs.ListDestinations(request)), NotFoundError)

    async def test_a_vip_is_held_and_listed(self, director: Agent) -> None:
        await director.vips.CreateVip(operations.create_vip(VIP, holder()).create_vip)
        (vip,) = (await director.vips.ListVips(vip_service_pb2.ListVipsRequest())).vips
        assert (vip.address, vip.present_device, vip.made_address) == (str(VIP), "eth0", True)
        one = await director.vips.GetVip(vip_service_pb2.GetVipRequest(address=str(VIP)))
        assert one.vip == vip
        await director.vips.DeleteVip(operations.delete_vip(VIP, holder()).delete_vip)
        assert not (await director.vips.GetVip(vip_service_pb2.GetVipRequest(address=str(VIP)))).vip.present

    async def test_vips_are_listed_by_the_virtual_server_that_they_are_held_for(self, director: Agent) -> None:
        mark = parse_key("fwmark/7")
        for vip, key in ((VIP, WEB), (VIP, mark), (VIP6, mark)):
            hold = VirtualServerHolder(key=key, authority="id")
            await director.vips.CreateVip(operations.create_vip(vip, hold).create_vip)

        def asked(key: VirtualServerKey) -> vip_service_pb2.ListVipsRequest:
            return vip_service_pb2.ListVipsRequest(held_for=wire.pack_key(key), page_size=1)

        found = await director.vips.ListVips(asked(WEB))
        assert ([vip.address for vip in found.vips], found.next_page_token) == ([str(VIP)], "")
        found = await director.vips.ListVips(asked(mark))
        assert ([vip.address for vip in found.vips], found.next_page_token) == ([str(VIP)], str(VIP))
        assert not (await director.vips.ListVips(asked(parse_key("fwmark6/7")))).vips
        empty = vip_service_pb2.ListVipsRequest(held_for=virtual_server_pb2.VirtualServerKey())
        assert (await error_of(director.vips.ListVips(empty))).field == "held_for"
        kernel(director).state.damage = "checksum"
        error = await error_of(director.vips.ListVips(asked(mark)))
        assert error.reason is Reason.JOURNAL_CORRUPT

    async def test_the_host_says_what_it_is_and_what_it_looks_like(self, director: Agent) -> None:
        await director.ipvs.DeleteDestination(
            destination_pb2.DeleteDestinationRequest(
                virtual_server=wire.pack_key(WEB),
                destination=wire.pack_destination_key(destination().key),
                allow_missing=True,
                real_server_keeps_vip=True,
            )
        )
        host = await director.hosts.GetHost(host_service_pb2.GetHostRequest(routes_to=["192.168.0.104", "10.0.0.1"]))
        assert (host.kind, host.agent_id, host.version) == (
            host_service_pb2.AGENT_KIND_DIRECTOR,
            "id-1",
            VERSION,
        )
        assert (host.ipvs_version, host.peer_address) == ("1.2.1", "")
        assert [route.reachable for route in host.routes] == [True, False]
        assert [each.address for each in host.addresses] == ["192.168.0.10", "2001:db8::10"]
        assert [each.real_server for each in host.leftovers] == ["192.168.0.104"]


class TestBatch:
    """Many operations, all or none."""

    def chunk(self, *keys: str, last: bool = True, scheduler: str = "") -> ipvs_service_pb2.BatchApplyRequest:
        wanted = [operations.create_virtual_server(parse_key(key), scheduler or None, None) for key in keys]
        return ipvs_service_pb2.BatchApplyRequest(operations=wanted, last=last, change_id="c1")

    async def test_chunks_are_one_batch(self, director: Agent) -> None:
        chunks = [self.chunk("fwmark/1", last=False), self.chunk("fwmark/2", "fwmark/3")]
        answer = await director.ipvs.BatchApply(iter(chunks))
        assert (answer.applied, answer.change_id, len(answer.results)) == (True, "c1", 3)
        assert len(table(kernel(director).ipvs)) == 3

    async def test_the_first_that_fails_ends_the_list_and_nothing_is_left(self, director: Agent) -> None:
        bad = self.chunk("fwmark/2", "fwmark/3", scheduler="mh")
        kernel(director).ipvs.schedulers = frozenset({"wlc"})
        answer = await director.ipvs.BatchApply(iter([self.chunk("fwmark/1", last=False), bad]))
        assert not answer.applied
        assert [each.WhichOneof("result") for each in answer.results] == ["change", "error"]
        assert from_item(answer.results[-1].error).reason is Reason.MODULE_MISSING
        assert table(kernel(director).ipvs) == {}

    async def test_an_empty_batch_or_one_without_an_end_is_refused(self, director: Agent) -> None:
        for chunks, field in (
            ([], "last"),
            ([ipvs_service_pb2.BatchApplyRequest(last=True)], "operations"),
            ([self.chunk("fwmark/1", last=False)], "last"),
            ([self.chunk("fwmark/1"), self.chunk("fwmark/2")], "last"),
            ([self.chunk("fwmark/1"), self.chunk("fwmark/2", last=False)], "last"),
            ([self.chunk(*["fwmark/1"] * 1001)], "operations"),
        ):
            error = await error_of(director.ipvs.BatchApply(iter(chunks)))  # type: ignore[arg-type]
            assert (type(error), error.field) == (InvalidInputError, field)
        assert table(kernel(director).ipvs) == {}

    async def test_half_a_batch_of_a_client_that_died_is_never_taken_for_a_whole_one(
        self, director: Agent, caplog: pytest.LogCaptureFixture
    ) -> None:
        """gRPC ends its stream as it ends that of one that has said everything."""
        caplog.set_level(logging.INFO)

        async def chunks() -> AsyncIterator[ipvs_service_pb2.BatchApplyRequest]:
            yield self.chunk("fwmark/1", "fwmark/2", last=False)
            await asyncio.sleep(60)

        calling = director.ipvs.BatchApply(chunks())
        await asyncio.sleep(0.2)
        calling.cancel()
        for _ in range(100):
            await asyncio.sleep(0.02)
            if "BatchApply" in caplog.text:
                break
        assert "was done" not in caplog.text
        assert "outcome=ok" not in caplog.text
        assert table(kernel(director).ipvs) == {}
        assert kernel(director).state.list("change") == {}


class TestListTable:
    """Virtual servers with their destinations, page by page."""

    async def test_pages_are_the_whole_table_and_end_where_they_are_full(self, director: Agent) -> None:
        for number, count in enumerate((3, 0, 5, 1), 1):
            key = parse_key(f"fwmark/{number}")
            kernel(director).ipvs.add_virtual_server(VirtualServer(key=key))
            for each in range(count):
                kernel(director).ipvs.add_destination(key, destination(f"10.0.0.{each + 1}", 0))
        pages: dict[int, list[list[int]]] = {}
        for size in (0, 1, 4, 5, 9, 13, 1000):
            token, more = "", True
            while more:
                request = ipvs_service_pb2.ListTableRequest(page_size=size, page_token=token)
                answer = await director.ipvs.ListTable(request)
                counts = [len(each.destinations) for each in answer.virtual_servers]
                pages.setdefault(size, []).append(counts)
                token = answer.next_page_token
                more = bool(token)
        assert pages == {
            0: [[3, 0, 5, 1]],
            1: [[3], [0], [5], [1]],
            4: [[3], [0, 5], [1]],
            5: [[3, 0], [5], [1]],
            9: [[3, 0, 5], [1]],
            13: [[3, 0, 5, 1]],
            1000: [[3, 0, 5, 1]],
        }

    async def test_a_size_or_a_token_that_cannot_be_is_refused(self, director: Agent) -> None:
        for request, field in (
            (ipvs_service_pb2.ListTableRequest(page_size=5001), "page_size"),
            (ipvs_service_pb2.ListTableRequest(page_token="fwmark/9"), "page_token"),  # noqa: S106  # no password
        ):
            error = await error_of(director.ipvs.ListTable(request))
            assert (type(error), error.field) == (InvalidInputError, field)


class TestApplyTable:
    """A stream of chunks, one table."""

    def chunk(self, key: str, *numbers: int, last: bool = True, **more: bool) -> ipvs_service_pb2.ApplyTableRequest:
        wanted = parse_key(key)
        entry = table_pb2.TableEntry(
            key=wire.pack_key(wanted),
            destinations=[
                wire.pack_destination(destination(str(IPv4Address("10.0.0.0") + number), 0)) for number in numbers
            ],
        )
        if more.pop("whole", True):
            entry.virtual_server.CopyFrom(wire.pack_virtual_server(VirtualServer(key=wanted)))
        part = table_pb2.WantedTable(entries=[entry], change_id="t1", **more)
        return ipvs_service_pb2.ApplyTableRequest(part=part, last=last)

    async def test_an_entry_may_go_on_in_the_next_chunk(self, director: Agent) -> None:
        chunks = [
            self.chunk("fwmark/1", *range(1, 900), last=False),
            self.chunk("fwmark/1", *range(900, 1500), whole=False, last=False),
            self.chunk("fwmark/2"),
        ]
        answer = await director.ipvs.ApplyTable(iter(chunks))
        assert (answer.change.made, answer.change.id, answer.change.table.added) == (True, "t1", 1501)
        assert answer.change.table.steps == b""
        assert {len(each) for each in table(kernel(director).ipvs).values()} == {1499, 0}
        again = await director.ipvs.ApplyTable(iter(chunks))  # the same name is the same change
        assert again.change.table.added == 1501

    async def test_steps_are_told_when_it_is_only_checked(self, director: Agent) -> None:
        answer = await director.ipvs.ApplyTable(iter([self.chunk("fwmark/1", 1, validate_only=True)]))
        assert [str(step) for step in unpack_steps(answer.change.table.steps)] == [
            "virtual server fwmark/1",
            "10.0.0.1:0 in fwmark/1",
        ]
        assert table(kernel(director).ipvs) == {}

    async def test_a_stream_that_is_cut_off_or_too_long_is_refused(self, director: Agent) -> None:
        for chunks, field in (
            ([], "last"),
            ([self.chunk("fwmark/1", last=False)], "last"),
            ([self.chunk("fwmark/1"), self.chunk("fwmark/2")], "last"),
            ([self.chunk("fwmark/1", *range(1, 1001))], "entries"),
        ):
            error = await error_of(director.ipvs.ApplyTable(iter(chunks)))  # type: ignore[arg-type]
            assert (type(error), error.field) == (InvalidInputError, field)
        assert table(kernel(director).ipvs) == {}


class TestRealServer:
    """VIPs on lo and the ARP sysctls over the wire."""

    async def test_a_vip_silences_and_its_end_restores(self, rs: Agent) -> None:
        await rs.vips.CreateVip(operations.create_vip(VIP, holder()).create_vip)
        arp = await rs.arp.GetArp(arp_service_pb2.GetArpRequest())
        assert [(each.interface, each.name, each.value, each.original) for each in arp.sysctls] == [
            ("all", "arp_ignore", 1, 0),
            ("all", "arp_announce", 2, 0),
            ("lo", "arp_ignore", 1, 0),
            ("lo", "arp_announce", 2, 0),
        ]
        assert [(each.interface, each.silent) for each in arp.interfaces] == [("eth0", True)]
        assert list(arp.vips) == [str(VIP)]
        await rs.vips.DeleteVip(operations.delete_vip(VIP, holder()).delete_vip)
        arp = await rs.arp.GetArp(arp_service_pb2.GetArpRequest())
        assert [(each.value, each.HasField("original")) for each in arp.sysctls] == [(0, False)] * 4
        assert not arp.interfaces[0].silent

    async def test_an_operator_silences_without_a_vip(self, rs: Agent) -> None:
        request = arp_service_pb2.GetArpRequest()
        silence = arp_pb2.SilenceArpRequest(operator="me")
        assert (await rs.arp.SilenceArp(silence)).change.made
        assert not (await rs.arp.SilenceArp(silence)).change.made
        assert list((await rs.arp.GetArp(request)).operators) == ["me"]
        restore = arp_pb2.RestoreArpRequest(operator="me")
        assert (await rs.arp.RestoreArp(restore)).change.made
        assert list((await rs.arp.GetArp(request)).operators) == []
        assert isinstance(await error_of(rs.arp.RestoreArp(restore)), NotFoundError)

    async def test_whether_something_listens(self, rs: Agent) -> None:
        request = host_service_pb2.CheckListenerRequest(protocol=virtual_server_pb2.PROTOCOL_UDP, address=OWN, port=53)
        answer = await rs.hosts.CheckListener(request)
        assert (answer.listening, answer.detail) == (False, "no UDP socket is bound to port 53")
        for address, wildcard in (("0.0.0.0", True), (OWN, False)):
            rs.host.sockets.bound = [Listener(protocol=Protocol.UDP, address=ip_address(address), port=53)]
            answer = await rs.hosts.CheckListener(request)
            assert (answer.listening, answer.wildcard) == (True, wildcard)

    async def test_the_agent_waits_for_something_that_listens(self, rs: Agent) -> None:
        request = host_service_pb2.CheckListenerRequest(
            protocol=virtual_server_pb2.PROTOCOL_UDP, address=OWN, port=53, wait=Duration(seconds=30)
        )
        asking = asyncio.ensure_future(rs.hosts.CheckListener(request))
        await asyncio.sleep(0.1)
        assert not asking.done()
        rs.host.sockets.bound = [Listener(protocol=Protocol.UDP, address=ip_address(OWN), port=53)]
        assert (await asyncio.wait_for(asking, 2)).listening
        rs.host.sockets.bound = []
        request.wait.FromMilliseconds(300)
        assert not (await rs.hosts.CheckListener(request)).listening
        request.wait.FromSeconds(61)
        assert (await error_of(rs.hosts.CheckListener(request))).field == "wait"

    async def test_nobody_has_a_host_knock_at_the_doors_of_others(self, rs: Agent) -> None:
        """A viewer could look through the whole network from there."""
        rs.host.sockets.bound = [Listener(protocol=Protocol.TCP, address=ip_address("0.0.0.0"), port=53)]
        for address in ("192.168.0.1", "8.8.8.8", str(VIP)):
            request = host_service_pb2.CheckListenerRequest(
                protocol=virtual_server_pb2.PROTOCOL_TCP, address=address, port=53
            )
            answer = await rs.hosts.CheckListener(request)
            assert (answer.listening, answer.detail) == (False, f"{address} is not an address of this host")

    async def test_what_cannot_be_listened_on_is_refused(self, rs: Agent) -> None:
        for request, field in (
            (host_service_pb2.CheckListenerRequest(address=str(VIP), port=53), "protocol"),
            (host_service_pb2.CheckListenerRequest(protocol=virtual_server_pb2.PROTOCOL_UDP, port=53), "address"),
            (
                host_service_pb2.CheckListenerRequest(protocol=virtual_server_pb2.PROTOCOL_UDP, address=str(VIP)),
                "port",
            ),
        ):
            assert (await error_of(rs.hosts.CheckListener(request))).field == field


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    """Ask as a load balancer or systemd's watchdog would."""
    ask = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return int((await ask(health_pb2.HealthCheckRequest(service=service), timeout=5)).status)


async def until(there: Callable[[], bool]) -> None:
    """Wait for a socket; gRPC itself waits a second before it tries again."""
    for _ in range(500):
        if there():
            return
        await asyncio.sleep(0.01)


class TestServe:
    """The part that both agents' __main__ share: health, reflection and a graceful end."""

    @pytest.fixture
    async def agent(self, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
        self.is_serving = True

        async def is_serving() -> bool:
            return self.is_serving

        path = tmp_path / "folder" / "api.sock"
        settings = AgentSettings(listen=(Endpoint(path=str(path)),), state_dir=tmp_path, tls=None, insecure=False)
        host = DirectorHost()
        self.running = asyncio.ensure_future(
            serve(settings, Kind.DIRECTOR, services(host), is_serving, [host.watch.follow])
        )
        await until(path.exists)
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            await channel.channel_ready()
            yield channel
        if not self.running.done():
            signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(self.running, 10)

    async def test_reflection_lists_every_service(self, agent: grpc.aio.Channel) -> None:
        ask = agent.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        async for answer in ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")])):
            names = {each.name for each in answer.list_services_response.service}
        assert names == {f"lvsagent.v1.{name}" for name in DIRECTOR_SERVICES} | {
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    async def test_health_says_serving_for_the_agent_and_each_service(self, agent: grpc.aio.Channel) -> None:
        for name in ("", *(f"lvsagent.v1.{each}" for each in DIRECTOR_SERVICES)):
            assert await health(agent, name) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(agent, "lvsagent.v1.NoSuchService")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_sigterm_ends_it_without_an_error(self, agent: grpc.aio.Channel) -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(self.running, 10)

    async def test_its_socket_is_for_its_owner_alone(self, agent: grpc.aio.Channel, tmp_path: Path) -> None:
        """No group was given: whoever opens it is an admin."""
        assert stat.S_IMODE((tmp_path / "folder" / "api.sock").stat().st_mode) == 0o600
        assert [each.name for each in (tmp_path / "folder").iterdir()] == ["api.sock"]

    async def test_a_second_agent_on_the_same_socket_is_refused_and_one_after_the_first_is_not(
        self, agent: grpc.aio.Channel, tmp_path: Path
    ) -> None:
        async def always() -> bool:
            return True

        path = tmp_path / "folder" / "api.sock"
        settings = AgentSettings(listen=(Endpoint(path=str(path)),), state_dir=tmp_path, tls=None, insecure=False)
        with pytest.raises(LvsError, match="another program listens there"):
            host = DirectorHost()
            await serve(settings, Kind.DIRECTOR, services(host), always, [host.watch.follow])
        assert await health(agent) == health_pb2.HealthCheckResponse.SERVING


async def test_an_agent_that_cannot_work_says_not_serving_and_answers_all_the_same(tmp_path: Path) -> None:
    """A director whose kernel has no IPVS."""

    async def never() -> bool:
        return False

    host = DirectorHost()
    host.ipvs.loaded = False
    path = tmp_path / "api.sock"
    settings = AgentSettings(listen=(Endpoint(path=str(path)),), state_dir=tmp_path, tls=None, insecure=False)
    running = asyncio.ensure_future(serve(settings, Kind.DIRECTOR, services(host), never, [host.watch.follow]))
    await until(path.exists)
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        await channel.channel_ready()
        assert await health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        stub = ipvs_service_pb2_grpc.IpvsServiceStub(channel)
        error = await error_of(stub.ListVirtualServers(ipvs_service_pb2.ListVirtualServersRequest()))
        assert error.reason is Reason.IPVS_MISSING
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(running, 10)


async def test_health_goes_on_being_told_after_a_failure_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that cannot be had is NOT_SERVING, and the next one counts again."""
    monkeypatch.setattr("agent_common.agent._HEALTH_SECONDS", 0.05)
    answers: Iterator[bool | OSError] = iter([True, OSError("broken"), False])

    async def is_serving() -> bool:
        found = next(answers, True)
        if isinstance(found, OSError):
            raise found
        return found

    path = tmp_path / "api.sock"
    settings = AgentSettings(listen=(Endpoint(path=str(path)),), state_dir=tmp_path, tls=None, insecure=False)
    running = asyncio.ensure_future(serve(settings, Kind.DIRECTOR, services(DirectorHost()), is_serving, []))
    await until(path.exists)
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        await channel.channel_ready()
        watch: Any = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        seen: list[int] = []
        while len(seen) < 2 or seen[-1] != health_pb2.HealthCheckResponse.SERVING:
            seen.append((await asyncio.wait_for(watch.read(), 5)).status)
        assert health_pb2.HealthCheckResponse.NOT_SERVING in seen
        watch.cancel()
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(running, 10)


def test_the_identity_of_an_agent_is_made_once() -> None:
    state = FakeState()
    first = agent_id(state)
    assert len(first) == 36
    assert agent_id(state) == first
    assert agent_id(FakeState()) != first
