"""TLS of an agent as it is shipped: versions, certificates replaced while it serves, serials that are denied."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from grpc_health.v1 import health_pb2
from lvsagent.v1 import host_service_pb2, host_service_pb2_grpc

from agent_common.endpoint import TlsFiles
from agent_common.errors import InvalidInputError, LvsError
from agent_common.grpc_errors import from_rpc_error
from agent_common.identity import Kind
from agent_common.server_certificates import ServerCertificates
from tests.certificates import Authority, uri
from tests.common.test_access import HERE, connected, serving
from tests.hosts import RealServerHost


async def get_host(channel: grpc.aio.Channel) -> host_service_pb2.GetHostResponse:
    stub = host_service_pb2_grpc.HostServiceStub(channel)
    return await stub.GetHost(host_service_pb2.GetHostRequest(), timeout=5)


async def refusal(channel: grpc.aio.Channel) -> LvsError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get_host(channel)
    error = from_rpc_error(caught.value)
    assert error is not None, caught.value
    return error


def copy(issued: Path, to: Path) -> None:
    """Replace a file as an operator should: by another one of its name."""
    shutil.copy(issued, to.with_suffix(".new"))
    to.with_suffix(".new").rename(to)


async def test_a_new_certificate_is_served_without_a_restart_and_no_stream_ends(tmp_path: Path) -> None:
    """Connections that are open stay; while the files do not fit together, the certificate from before is served."""
    ca = Authority(tmp_path)
    old = ca.issue("server", uri("realserver", "rs1"), addresses=[HERE])
    viewer = ca.issue("viewer", uri("viewer")).files
    async with serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target:
        async with connected(target, ca.file, viewer) as channel:
            watch: Any = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            new = ca.issue("next", uri("realserver", "rs1"), addresses=[HERE])
            copy(new.files.cert, old.files.cert)
            assert served_serial(target, viewer.cert, viewer.key) == old.serial
            copy(new.files.key, old.files.key)
            assert served_serial(target, viewer.cert, viewer.key) == new.serial
            await get_host(channel)
            waiting = asyncio.ensure_future(watch.read())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            waiting.cancel()
            watch.cancel()
        async with connected(target, ca.file, viewer) as channel:
            await get_host(channel)


async def test_certificates_are_replaced_under_traffic_and_no_call_fails(tmp_path: Path) -> None:
    """Again and again, certificate before key and key before certificate, each call on a connection of its own."""
    ca = Authority(tmp_path)
    old = ca.issue("server", uri("realserver", "rs1"), addresses=[HERE])
    viewer = ca.issue("viewer", uri("viewer")).files
    replaced = asyncio.Event()

    async def ask(target: str) -> int:
        calls = 0
        while not replaced.is_set():
            async with connected(target, ca.file, viewer) as channel:
                await get_host(channel)
            calls += 1
        return calls

    async with serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target:
        asking = [asyncio.ensure_future(ask(target)) for _ in range(4)]
        for number in range(20):
            new = ca.issue("next", uri("realserver", "rs1"), addresses=[HERE])
            files = [(new.files.cert, old.files.cert), (new.files.key, old.files.key)]
            for source, to in files if number % 2 else reversed(files):
                copy(source, to)
                await asyncio.sleep(0.02)
        replaced.set()
        assert min(await asyncio.gather(*asking)) > 5
        assert served_serial(target, viewer.cert, viewer.key) == new.serial


async def test_another_domains_certificate_is_not_taken_up_while_it_serves(tmp_path: Path) -> None:
    """Who may call would be others."""
    ca = Authority(tmp_path)
    old = ca.issue("server", uri("realserver", "rs1"), addresses=[HERE])
    viewer = ca.issue("viewer", uri("viewer")).files
    async with serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target:
        ca.issue("server", uri("realserver", "rs1", domain="example.com"), addresses=[HERE])
        assert served_serial(target, viewer.cert, viewer.key) == old.serial


def served_serial(target: str, cert: Path, key: Path) -> str:
    """The serial of the certificate that a new connection is shown."""
    argv = [
        "openssl",
        "s_client",
        "-connect",
        target,
        "-alpn",
        "h2",
        "-cert",
        str(cert),
        "-key",
        str(key),
        "-showcerts",
    ]
    shown = subprocess.run(
        argv, input="", capture_output=True, text=True, errors="replace", check=False, timeout=20
    ).stdout
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, text=True, check=True, timeout=20
    ).stdout
    return text.strip().partition("=")[2].lower().lstrip("0")


async def test_a_serial_that_is_denied_is_refused_at_its_next_call(tmp_path: Path) -> None:
    """On the connection that it has; and let in again when it is off the list. A list that cannot be read stays."""
    ca = Authority(tmp_path)
    ca.issue("server", uri("realserver", "rs1"), addresses=[HERE])
    viewer = ca.issue("viewer", uri("viewer"))
    async with (
        serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target,
        connected(target, ca.file, viewer.files) as channel,
    ):
        await get_host(channel)
        listed = tmp_path / "denied"
        colons = ":".join(viewer.serial.zfill(40)[i : i + 2] for i in range(0, 40, 2)).upper()
        listed.write_text(f"# stolen\n{colons}  # Ada's laptop\n")
        assert "deny-list" in (await refusal(channel)).message
        listed.write_text("not hex\n")
        assert "deny-list" in (await refusal(channel)).message
        listed.unlink()
        assert "deny-list" in (await refusal(channel)).message
        listed.write_text("")
        await get_host(channel)


async def test_a_certificate_that_expires_while_it_is_connected_is_refused(tmp_path: Path) -> None:
    """TLS looks at it only when the connection is made."""
    ca = Authority(tmp_path)
    ca.issue("server", uri("realserver", "rs1"), addresses=[HERE])
    viewer = ca.issue("viewer", uri("viewer"), days=(-1, 2.5 / 86400))
    async with (
        serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target,
        connected(target, ca.file, viewer.files) as channel,
    ):
        await get_host(channel)
        await asyncio.sleep(3.2)
        assert "valid until" in (await refusal(channel)).message


@pytest.mark.parametrize(
    ("uris", "why"),
    [
        ((), "has no URI"),
        ((uri("realserver"), uri("director")), "has 2 URIs"),
        ((uri("admin"),), "cannot serve as a realserver"),
        ((uri("director"),), "cannot serve as a realserver"),
        (("https://example.org/",), "not of the form"),
    ],
)
def test_an_agent_serves_with_a_certificate_of_its_kind_only(tmp_path: Path, uris: tuple[str, ...], why: str) -> None:
    issued = Authority(tmp_path).issue("server", *uris, addresses=[HERE])
    with pytest.raises(InvalidInputError, match=f"tls_cert: .*{why}"):
        ServerCertificates(issued.files, Kind.REALSERVER)


def test_a_key_of_another_certificate_is_refused_at_the_start(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    issued, other = ca.issue("server", uri("realserver")), ca.issue("other", uri("realserver"))
    shutil.copy(other.files.key, issued.files.key)
    with pytest.raises(InvalidInputError, match="tls_key: is not the key of the certificate"):
        ServerCertificates(issued.files, Kind.REALSERVER)


@pytest.mark.parametrize("content", ["", "no certificate"])
async def test_a_ca_file_that_is_being_written_locks_nobody_out(tmp_path: Path, content: str) -> None:
    """The one from before goes on."""
    ca = Authority(tmp_path)
    ca.issue("server", uri("realserver", "rs1"), addresses=[HERE])
    viewer = ca.issue("viewer", uri("viewer")).files
    known = tmp_path / "known.crt"
    shutil.copy(ca.file, known)
    async with serving(tmp_path, Kind.REALSERVER, RealServerHost()) as target:
        ca.file.write_text(content)
        async with connected(target, known, viewer) as channel:
            await get_host(channel)


AGENT = """
import asyncio, sys
from pathlib import Path
from typing import Any
import agent_realserver
from tests.common.test_access import serving
from agent_common.identity import Kind
from tests.hosts import RealServerHost

async def main():
    async with serving(Path(sys.argv[1]), Kind.REALSERVER, RealServerHost()) as target:
        print(target, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("rsa_key", [False, True])
def test_only_tls_13_is_spoken_with_p256_certificates(tmp_path: Path, rsa_key: bool) -> None:
    """openssl s_client -tls1_2 is refused; a CA that issues RSA certificates gets 1.2 too, and that is documented."""
    key = rsa.generate_private_key(65537, 2048) if rsa_key else None
    ca = Authority(tmp_path)
    ca.issue("server", uri("realserver", "rs1"), addresses=[HERE], key=key)
    viewer = ca.issue("viewer", uri("viewer")).files
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    command = [sys.executable, "-c", AGENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as agent:
        try:
            assert agent.stdout is not None
            target = agent.stdout.readline().strip()
            spoken = {version for version in ("-tls1_1", "-tls1_2", "-tls1_3") if speaks(target, version, viewer)}
        finally:
            agent.kill()
    assert spoken == ({"-tls1_2", "-tls1_3"} if rsa_key else {"-tls1_3"})


def speaks(target: str, version: str, files: TlsFiles) -> bool:
    """Whether a handshake of this version comes to its end."""
    argv = ["openssl", "s_client", "-connect", target, version, "-alpn", "h2"]
    argv += ["-cert", str(files.cert), "-key", str(files.key), "-CAfile", str(files.ca), "-verify_return_error"]
    done = subprocess.run(argv, input="", capture_output=True, text=True, errors="replace", check=False, timeout=20)
    return "Verify return code: 0 (ok)" in done.stdout and "Cipher is (NONE)" not in done.stdout
