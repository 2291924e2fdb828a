"""Checks by gRPC: what the health service says, and servers that have none, or no TLS, or the wrong one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from agent_common.check import GrpcCheck, Tls
from agent_common.checks import NetworkChecks
from tests.certificates import Authority
from tests.common.checking import (
    PLENTY,
    SECONDS,
    ask,
    closes,
    detail,
    resets,
    says_nothing,
    sends,
    serving,
    target,
    unused_port,
)

GRPC = GrpcCheck()
NAME = "127.0.0.1"
STATES = health_pb2.HealthCheckResponse


@contextmanager
def grpc_server(
    *,
    has_health: bool = True,
    handler: grpc.GenericRpcHandler | None = None,
    credentials: grpc.ServerCredentials | None = None,
    port: int = 0,
) -> Iterator[int]:
    """A server of which one service serves, and another does not; in threads, so that its tasks are not in the way."""
    with ThreadPoolExecutor() as threads:
        server = grpc.server(threads, options=[("grpc.so_reuseport", 0)])
        if handler is not None:
            server.add_generic_rpc_handlers((handler,))
        elif has_health:
            servicer = health.HealthServicer()
            servicer.set("", STATES.SERVING)
            servicer.set("up", STATES.SERVING)
            servicer.set("down", STATES.NOT_SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        where = f"{NAME}:{port}"
        port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
        server.start()
        try:
            yield port
        finally:
            server.stop(grace=None).wait()


@pytest.fixture(autouse=True)
async def _library() -> None:
    """What the library opens once for all stays."""
    await NetworkChecks()(GRPC, target(unused_port()), PLENTY)


async def test_a_service_that_serves_passes() -> None:
    with grpc_server() as port:
        for service in ("", "up"):
            answer = await ask(GrpcCheck(service=service), port)
            assert (answer.passed, answer.detail) == (True, "SERVING")


async def test_all_else_that_a_server_says_fails() -> None:
    with grpc_server() as port:
        assert await detail(GrpcCheck(service="down"), port) == "NOT_SERVING"
        assert await detail(GrpcCheck(service="other"), port) == "the server does not know the service 'other'"
    with grpc_server(has_health=False) as port:
        assert await detail(GRPC, port) == "the server has no health service"


async def test_a_server_that_is_back_is_found_at_once() -> None:
    """No connection is kept, and no failure is remembered."""
    port = unused_port()
    assert await detail(GRPC, port) == "connection refused"
    with grpc_server(port=port):
        assert (await ask(GRPC, port)).passed
    assert await detail(GRPC, port) == "connection refused"


async def test_a_server_that_says_nothing_fails_in_time() -> None:
    async with serving(says_nothing) as port:
        assert await detail(GRPC, port, SECONDS) == f"no answer within {SECONDS:g} s"
        assert await detail(GrpcCheck(tls=Tls(server_name=NAME)), port, SECONDS) == f"no answer within {SECONDS:g} s"


async def test_a_server_of_something_else_fails() -> None:
    for handler in (sends(b"HTTP/1.1 400 Bad Request\r\n\r\n", after=b""), closes, resets):
        async with serving(handler) as port:
            assert (await detail(GRPC, port)).startswith("no gRPC: ")


async def test_an_answer_that_is_none_fails(caplog: pytest.LogCaptureFixture) -> None:
    """It is octets of another program."""
    caplog.set_level(logging.CRITICAL, "grpc._common")  # a traceback that is kept would keep the connection

    class Other(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff\xff")

    with grpc_server(handler=Other()) as port:
        assert await detail(GRPC, port) == "the answer is no HealthCheckResponse"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def credentials(authority: Authority, days: tuple[float, float] = (-1, 1)) -> grpc.ServerCredentials:
    """What a server with a certificate for 127.0.0.1 proves itself with."""
    _, cert, key = authority.issue("grpc", addresses=[NAME], days=days).files.read()
    return grpc.ssl_server_credentials([(key, cert)])


async def test_tls_passes_with_the_right_certificate_and_says_what_is_wrong_with_another(authority: Authority) -> None:
    """Whatever address is asked, the name is the one that was given."""

    def check(name: str, file: str) -> GrpcCheck:
        return GrpcCheck(tls=Tls(server_name=name, ca_file=file))

    file = str(authority.file)
    with grpc_server(credentials=credentials(authority)) as port:
        assert (await ask(check(NAME, file), port, PLENTY)).passed
        said = await detail(check("other.example", file), port)
        assert said == "certificate is for other names than other.example"
        assert await detail(check(NAME, ""), port) == "certificate is of a CA that is not trusted"
        said = await detail(check(NAME, "/nonexistent"), port)
        assert said == "cannot read the CA file /nonexistent: No such file or directory"
    with grpc_server(credentials=credentials(authority, (-9, -1))) as port:
        assert await detail(check(NAME, file), port) == "certificate has expired"
    with grpc_server() as port:
        assert await detail(check(NAME, file), port) == "connected, but no TLS handshake: it does not speak TLS"
