"""The table of connections: the kernel's lines are read right, and only what is asked for is answered."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Generator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lvsagent.v1 import connection_service_pb2, connection_service_pb2_grpc, virtual_server_pb2

from agent_common.destination import DestinationKey
from agent_common.errors import InternalError, LvsError, Reason, RefusedError
from agent_common.grpc_errors import from_rpc_error
from agent_common.handlers import Handlers, Service
from agent_common.worker import Worker
from agent_director.connection import Connection
from agent_director.connection_service import ConnectionServicer
from agent_director.procfs_connections import ProcfsConnections, parse_connection
from tests.hosts import run
from tests.serving import ADMINS

HEADING = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
LINES = [
    "TCP C0A80042 9C40 C0A800C8 2710 C0A80068 2710 ESTABLISHED     899\n",
    "TCP C0A80042 9C41 C0A800C8 2710 C0A80069 2710 FIN_WAIT        100\n",
    "UDP 0A000001 0035 C0A800C8 0035 C0A80068 0035 UDP             300\n",
    "TCP C0A80042 0000 C0A800C8 0000 C0A80068 0000 NONE            360\n",
    "IP  C0A80042 0000 00000007 0000 C0A80068 0000 NONE            360\n",
    "UDP 0A000001 0000 C0A800C8 13C4 C0A80068 13C4 NONE             60 sip 1-2@10.0.0.1\n",
    "TCP 2001:0db8:0000:0000:0000:0000:0000:0042 9C42 2001:0db8:0000:0000:0000:0000:0000:0200 0050 "
    "2001:0db8:0000:0000:0000:0000:0000:0104 0050 ESTABLISHED     899\n",
    "TCP C0A80042 9C43 C0A800C8 0050 2001:0db8:0000:0000:0000:0000:0000:0104 0050 SYN_RECV         60\n",
]
Request = connection_service_pb2.ListConnectionsRequest


class Stage:
    """ConnectionService over gRPC, on a file of ours."""

    def __init__(self, folder: Path, lines: list[str]) -> None:
        self.path = folder / "api.sock"
        self.net = folder
        (folder / "ip_vs_conn").write_text(HEADING + "".join(lines))

    async def ask(self, request: Request) -> list[connection_service_pb2.ListConnectionsResponse]:
        descriptor = connection_service_pb2.DESCRIPTOR.services_by_name["ConnectionService"]
        servicer = ConnectionServicer(ProcfsConnections(self.net), run)
        server = Handlers().make_server(ADMINS, [Service(descriptor=descriptor, servicer=servicer)])
        server.add_insecure_port(f"unix:{self.path}")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{self.path}") as channel:
                stub = connection_service_pb2_grpc.ConnectionServiceStub(channel)
                return [each async for each in stub.ListConnections(request, timeout=10)]
        finally:
            await server.stop(grace=None)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, LINES)


async def found(stage: Stage, request: Request) -> list[int]:
    """The places in LINES of what is answered."""
    parsed = [parse_connection(line) for line in LINES]
    keys = [(str(each.client), each.client_port, each.virtual_port, each.protocol) for each in parsed]
    return [
        keys.index((each.client, each.client_port, each.virtual_port, each.protocol))
        for answer in await stage.ask(request)
        for each in answer.connections
    ]


def test_a_line_is_read() -> None:
    assert parse_connection(LINES[0]) == Connection(
        protocol="TCP",
        client=ip_address("192.168.0.66"),
        client_port=40000,
        virtual_address=ip_address("192.168.0.200"),
        virtual_port=10000,
        destination=DestinationKey(address=ip_address("192.168.0.104"), port=10000),
        state="ESTABLISHED",
        expires=899,
    )
    assert str(parse_connection(LINES[6]).virtual_address) == "2001:db8::200"
    assert str(parse_connection(LINES[7]).destination) == "[2001:db8::104]:80"


def test_a_template_of_an_engine_is_read() -> None:
    sip = parse_connection(LINES[5])
    assert (sip.persistence_engine, sip.persistence_data) == ("sip", "1-2@10.0.0.1")


@given(st.text())
def test_what_is_no_line_is_an_error_and_nothing_else(text: str) -> None:
    with contextlib.suppress(InternalError):
        parse_connection(text)


@pytest.mark.parametrize(
    ("fields", "places"),
    [
        ({}, list(range(8))),
        ({"protocol": virtual_server_pb2.PROTOCOL_UDP}, [2, 5]),
        ({"virtual_address": "192.168.0.200", "virtual_port": 10000}, [0, 1]),
        ({"virtual_address": "2001:db8::200"}, [6]),
        ({"real_server": "192.168.0.104", "real_server_port": 53}, [2]),
        ({"client": "10.0.0.0/8"}, [2, 5]),
        ({"client": "192.168.0.66", "state": "established"}, [0]),
        ({"client": "2001:db8::/32"}, [6]),
    ],
)
async def test_only_what_matches_is_answered(stage: Stage, fields: dict[str, Any], places: list[int]) -> None:
    assert await found(stage, Request(**fields)) == places


async def test_pages_go_on_where_the_one_before_ended(stage: Stage) -> None:
    seen: list[int] = []
    token = ""
    for size in (1, 1, 0):
        request = Request(protocol=virtual_server_pb2.PROTOCOL_TCP, page_size=size, page_token=token)
        seen += await found(stage, request)
        token = (await stage.ask(request))[-1].next_page_token
    assert (seen, token) == ([0, 1, 3, 6, 7], "")


async def test_a_page_that_ends_with_the_table_is_the_last(stage: Stage) -> None:
    answers = await stage.ask(Request(page_size=len(LINES)))
    assert [each.next_page_token for each in answers] == [""]


async def test_a_large_table_comes_in_parts(tmp_path: Path) -> None:
    answers = await Stage(tmp_path, LINES[:1] * 2500).ask(Request())
    assert sum(len(each.connections) for each in answers) == 2500
    assert max(len(each.connections) for each in answers) <= 1000


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"virtual_address": "vip"}, "virtual_address: 'vip' is not an IPv4 or IPv6 address"),
        ({"virtual_port": 65536}, "virtual_port: "),
        ({"real_server_port": 65536}, "real_server_port: "),
        ({"client": "10.0.0.1/8"}, "client: '10.0.0.1/8' is not a prefix like 10.0.0.0/8, nor an address"),
        ({"protocol": 9}, "protocol: 9 is unknown"),
        ({"page_token": "-1"}, "page_token: '-1' is not one of an answer"),
    ],
)
async def test_bad_input_is_told(stage: Stage, fields: dict[str, Any], told: str) -> None:
    assert (await error(stage, Request(**fields))).message.startswith(told)


async def test_a_kernel_without_ipvs_is_told(stage: Stage) -> None:
    (stage.net / "ip_vs_conn").unlink()
    told = await error(stage, Request())
    assert (type(told), told.reason) == (RefusedError, Reason.IPVS_MISSING)


async def test_a_line_that_cannot_be_read_is_told(stage: Stage) -> None:
    (stage.net / "ip_vs_conn").write_text(HEADING + "TCP what\n")
    assert (await error(stage, Request())).message == "cannot read a connection: 'TCP what'"


class SlowConnections:
    """A table whose parts take a while to read, in the worker's thread."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def read(self, skip: int) -> Generator[list[Connection]]:
        try:
            while True:
                yield [parse_connection(LINES[0])]
                time.sleep(0.3)
        finally:
            self.closed.set()


async def test_a_client_that_has_seen_enough_ends_the_reading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of a part, too; and nothing of that is a failure."""
    worker, connections = Worker(), SlowConnections()
    descriptor = connection_service_pb2.DESCRIPTOR.services_by_name["ConnectionService"]
    servicer = ConnectionServicer(connections, worker)
    server = Handlers().make_server(ADMINS, [Service(descriptor=descriptor, servicer=servicer)])
    server.add_insecure_port(f"unix:{tmp_path}/api.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/api.sock") as channel:
        call: Any = connection_service_pb2_grpc.ConnectionServiceStub(channel).ListConnections(Request())
        assert len((await call.read()).connections) == 1
        await asyncio.sleep(0.1)
        call.cancel()
        assert await asyncio.to_thread(connections.closed.wait, 3)
    await server.stop(grace=None)
    worker.close()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def error(stage: Stage, request: Request) -> LvsError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.ask(request)
    told = from_rpc_error(caught.value)
    assert told is not None
    return told
