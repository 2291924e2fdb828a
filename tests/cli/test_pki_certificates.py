"""The certificates of `lvs pki`, as other programs see them: openssl, and gRPC with TLS on both sides."""

from __future__ import annotations

import datetime
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_common.endpoint import TlsFiles
from agent_common.errors import InvalidInputError, RefusedError
from agent_common.identity import Kind
from cli.pki import CLOCK_SKEW, Authority, lifetime, make_authority, make_pair
from cli.pki_facts import describe
from cli.pki_files import Folder
from cli.pki_request import Address, Holder, HostName, parse_agent, parse_host
from tests.cli.pki import Pki, openssl
from tests.common.test_access import HERE, connected, serving
from tests.common.test_identity import NAMES
from tests.common.test_tls import get_host, refusal, served_serial
from tests.hosts import RealServerHost

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)

LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(lambda labels: HostName(".".join(labels)))
ADDRESSES: st.SearchStrategy[Address] = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), HOSTS)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """A CA in memory."""
    pair = make_authority("example.org", NOW, 1000 * DAY)
    return Authority(domain="example.org", certificate=pair.certificate, key=pair.key, chain=b"")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A site's PKI: two agents, one of them without addresses but its loopback ones, and a user."""
    made = Pki(path=tmp_path_factory.mktemp("pki") / "pki")
    made.init("--domain", "example.org")
    made.done("issue", "agent", "lb1", "--role", "director", "--address", "127.0.0.1", "--address", "lb1.example.org")
    made.done("issue", "agent", "rs1", "--address", "192.168.0.104", "--address", "2001:db8::104")
    made.done("issue", "agent", "rs6", "--address", "::1")
    made.done("issue", "user", "ada", "--role", "admin")
    return made


@given(kind=st.sampled_from(Kind), name=NAMES, addresses=st.lists(ADDRESSES, unique=True, max_size=5))
@settings(max_examples=50)
def test_a_certificate_says_what_was_asked_for(
    authority: Authority, kind: Kind, name: str, addresses: list[Address]
) -> None:
    """Identity, addresses, times and a serial of 32 digits, for every holder that can be."""
    holder = Holder(kind=kind, name=name, addresses=tuple(addresses))
    certificate = make_pair(authority, holder, NOW, 90 * DAY).certificate
    facts = describe(certificate)
    assert (facts.identity, facts.refused) == (holder.identity("example.org"), "")
    assert facts.addresses == holder.addresses
    assert (facts.not_before, facts.not_after) == (NOW - CLOCK_SKEW, NOW + 90 * DAY)
    assert lifetime(certificate) == 90 * DAY
    assert re.fullmatch(r"[4-7][0-9a-f]{31}", facts.serial)
    assert (facts.key, facts.is_ca) == ("P-256", False)


@given(text=st.one_of(st.text(), st.from_regex(r"[a-z0-9.:_\[\]-]+"), ADDRESSES.map(str)))
def test_an_address_is_refused_or_can_stand_in_a_certificate(text: str) -> None:
    """What is accepted is read again as the same, and never changes who is meant."""
    try:
        address = parse_host(text, "address")
    except InvalidInputError as error:
        assert error.message.startswith("address: ")
        return
    assert parse_host(str(address), "address") == address
    if not isinstance(address, IPv4Address | IPv6Address):
        assert address == text.lower()
        assert address.isascii()


def test_no_loopback_address_is_added() -> None:
    """A name that every host has would let any agent's key speak for any host's loopback."""
    assert parse_agent("lb1", ["192.168.0.10"], "director").addresses == (IPv4Address("192.168.0.10"),)


def test_a_certificate_never_outlives_its_ca(authority: Authority) -> None:
    """To the second; the refusal says how many days are left."""
    holder = Holder(kind=Kind.ADMIN, name="ada")
    last = NOW + 1000 * DAY
    assert make_pair(authority, holder, last - 3 * DAY, 3 * DAY).certificate.not_valid_after_utc == last
    later = last - 3 * DAY + datetime.timedelta(seconds=1)
    with pytest.raises(RefusedError, match="give at most 2, or make another CA"):
        make_pair(authority, holder, later, 3 * DAY)
    with pytest.raises(RefusedError, match="has expired on 2028-09-28"):
        make_pair(authority, holder, last, DAY)
    with pytest.raises(RefusedError, match="is this host's clock right"):
        make_pair(authority, holder, NOW - DAY, DAY)


@pytest.mark.parametrize(
    ("name", "purpose", "valid"),
    [
        ("director-lb1", "sslserver", True),
        ("director-lb1", "sslclient", True),
        ("realserver-rs1", "sslserver", True),
        ("realserver-rs1", "sslclient", True),
        ("admin-ada", "sslclient", True),
        ("admin-ada", "sslserver", False),
    ],
)
def test_openssl_takes_a_certificate_for_what_it_is_for(pki: Pki, name: str, purpose: str, valid: bool) -> None:
    """An agent's on both sides, a user's from a client alone; strictly by RFC 5280."""
    files = ("-CAfile", f"{pki.path}/{name}/ca.crt", f"{pki.path}/{name}/tls.crt")
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", purpose, *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is valid, done.stdout + done.stderr


def test_openssl_reads_the_extensions_as_they_were_meant(pki: Pki) -> None:
    """Critical ones too; the CA may sign holders only, and names the trust domain."""
    ca = openssl("x509", "-noout", "-text", "-in", f"{pki.path}/ca.crt")
    assert "Basic Constraints: critical\n                CA:TRUE, pathlen:0" in ca
    assert "Key Usage: critical\n                Certificate Sign, CRL Sign" in ca
    assert "URI:spiffe://example.org\n" in ca
    assert "Subject Key Identifier" in ca
    assert "ASN1 OID: prime256v1" in ca
    agent = openssl("x509", "-noout", "-text", "-in", f"{pki.path}/realserver-rs1/tls.crt")
    assert "Basic Constraints: critical\n                CA:FALSE" in agent
    assert "Key Usage: critical\n                Digital Signature\n" in agent
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in agent
    names = "IP Address:192.168.0.104, IP Address:2001:DB8:0:0:0:0:0:104, URI:spiffe://example.org/lvs/realserver/rs1"
    assert names in agent
    assert "Subject Key Identifier" in agent
    assert "Authority Key Identifier" in agent
    user = openssl("x509", "-noout", "-text", "-in", f"{pki.path}/admin-ada/tls.crt")
    assert "Alternative Name: \n                URI:spiffe://example.org/lvs/admin/ada\n" in user
    assert "Server Authentication" not in user


def test_the_serial_is_the_one_that_openssl_prints(pki: Pki) -> None:
    """In lower case, as a deny-list takes it."""
    printed = openssl("x509", "-noout", "-serial", "-in", f"{pki.path}/admin-ada/tls.crt")
    assert pki.show()["admin/ada current"]["serial"] == printed.strip().removeprefix("serial=").lower()


def files_of(directory: Path) -> tuple[bytes, bytes, bytes]:
    """CA, certificate and key."""
    return tuple((directory / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))  # type: ignore[return-value]


@asynccontextmanager
async def served(directory: Path, address: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[str]]]:
    """A server that asks for certificates; its port, and who called."""
    callers: list[str] = []

    class Health(health_pb2_grpc.HealthServicer):
        async def Check(self, request: object, context: grpc.aio.ServicerContext) -> health_pb2.HealthCheckResponse:  # type: ignore[type-arg]  # noqa: N802
            callers.extend(each.decode() for each in context.auth_context().get("peer_spiffe_id", ()))
            return health_pb2.HealthCheckResponse()

    ca, certificate, key = files_of(directory)
    credentials = grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    port = server.add_secure_port(f"{address}:0", credentials)
    await server.start()
    try:
        yield port, callers
    finally:
        await server.stop(None)


async def call(directory: Path, target: str) -> grpc.StatusCode:
    """Call a server with what is in a directory, and return how that ended."""
    ca, certificate, key = files_of(directory)
    credentials = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)
    async with grpc.aio.secure_channel(target, credentials) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)  # type: ignore[attr-defined]  # the types lack it
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_agents_and_users_speak_grpc_with_what_they_are_given(pki: Pki) -> None:
    """TLS on both sides; the server learns the one identity of its caller."""
    async with served(pki.path / "director-lb1") as (port, callers):
        for name in ("admin-ada", "realserver-rs1"):
            assert await call(pki.path / name, f"127.0.0.1:{port}") is grpc.StatusCode.OK
    assert callers == ["spiffe://example.org/lvs/admin/ada", "spiffe://example.org/lvs/realserver/rs1"]


@pytest.mark.skipif(not socket.has_ipv6, reason="this host has no IPv6")
async def test_an_agent_is_known_by_its_ipv6_address(pki: Pki) -> None:
    """As gRPC compares them: as text."""
    async with served(pki.path / "realserver-rs6", "[::1]") as (port, _):
        assert await call(pki.path / "admin-ada", f"[::1]:{port}") is grpc.StatusCode.OK


async def test_nobody_is_taken_for_an_agent_at_another_address(pki: Pki) -> None:
    """The caller compares the address that it dials with those of the certificate."""
    async with served(pki.path / "realserver-rs1") as (port, callers):
        assert await call(pki.path / "admin-ada", f"127.0.0.1:{port}") is grpc.StatusCode.UNAVAILABLE
    assert callers == []


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.DIRECTOR, grpc.StatusCode.OK), (Kind.ADMIN, grpc.StatusCode.UNAVAILABLE)]
)
async def test_a_user_cannot_pose_as_an_agent(pki: Pki, tmp_path: Path, kind: Kind, code: grpc.StatusCode) -> None:
    """Not even where the CA was made to write an address into the certificate: it is no server's."""
    folder = Folder(tmp_path)
    authority = Folder(pki.path).authority()
    holder = Holder(kind=kind, name="eve", addresses=(IPv4Address("127.0.0.1"),))
    directory = folder.put(holder, make_pair(authority, holder, datetime.datetime.now(datetime.UTC), DAY), authority)
    async with served(directory) as (port, _):
        assert await call(pki.path / "admin-ada", f"127.0.0.1:{port}") is code


async def test_another_ca_opens_nothing(pki: Pki, tmp_path: Path) -> None:
    """Not even one with the same domain and the same names."""
    other = Pki(path=tmp_path / "other")
    other.init("--domain", "example.org")
    other.done("issue", "user", "ada", "--role", "admin")
    stranger = tmp_path / "stranger"
    shutil.copytree(other.path / "admin-ada", stranger)
    (stranger / "ca.crt").write_bytes((pki.path / "ca.crt").read_bytes())  # it would trust the agent
    async with served(pki.path / "director-lb1") as (port, callers):
        assert await call(stranger, f"127.0.0.1:{port}") is grpc.StatusCode.UNAVAILABLE
    assert callers == []


async def test_an_agent_as_it_is_shipped_takes_them_and_denies_what_show_lists(pki: Pki, tmp_path: Path) -> None:
    """It serves with an agent's files, lets a user in, and keeps out a serial as `lvs pki show` prints it."""
    shutil.copytree(pki.path, tmp_path / "pki")
    site = Pki(path=tmp_path / "pki")
    site.done("issue", "agent", "rs2", "--address", HERE)
    agent, user = tls_files(site, "realserver-rs2"), tls_files(site, "admin-ada")
    async with (
        serving(tmp_path, Kind.REALSERVER, RealServerHost(), tls=agent) as target,
        connected(target, user.ca, user) as channel,
    ):
        await get_host(channel)
        site.done("renew", "realserver/rs2", "admin/ada")
        assert served_serial(target, user.cert, user.key) == site.show()["realserver/rs2 current"]["serial"]
        (tmp_path / "denied").write_text(f"{site.show()['admin/ada superseded']['serial']}  # stolen\n")
        assert "deny-list" in (await refusal(channel)).message
        async with connected(target, user.ca, user) as renewed:
            await get_host(renewed)


def tls_files(pki: Pki, name: str) -> TlsFiles:
    """What a host has been given."""
    directory = pki.path / name
    return TlsFiles(ca=directory / "ca.crt", cert=directory / "tls.crt", key=directory / "tls.key")
