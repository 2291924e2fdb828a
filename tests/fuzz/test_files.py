"""Files, variables and certificates at random: read, or refused in one line that names what is at fault."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import strategies as st

from agent_common.agent_settings import read_settings
from agent_common.audit import AuditRecord
from agent_common.audit_file import open_audit
from agent_common.certificate import check_key_fits, read_certificate
from agent_common.deny_list import DenyList
from agent_common.endpoint import TlsFiles
from agent_common.errors import InvalidInputError, LvsError
from agent_common.identity import Kind, parse_identity
from agent_common.server_certificates import ServerCertificates
from cli.cmd_restore import _read as read_rules_file
from cli.settings import DEFAULTS, load_settings, make_site
from tests.certificates import Authority, uri
from tests.fuzz.fuzzing import Fuzz
from tests.fuzz.test_kernel_answers import spoilt

AGENT_KEYS = (
    *("listen", "state_dir", "insecure", "enforce", "tls_ca", "tls_cert", "tls_key", "deny_serials"),
    *("socket_group", "operator_vips", "config", "nothing"),
)
VALUES = (
    *(
        '"127.0.0.1:9710"',
        '"[::1]:1"',
        '"unix:/run/x.sock"',
        '"unix:"',
        '"0.0.0.0:0"',
        '"h:99999"',
        '""',
        '"a\\u0000b"',
    ),
    *("true", "1", "-1", "1.5", "inf", "nan", "1e400", "9" * 5000, "[]", '["a", "b"]', "[1]", "[[]]", "{}", "{a = 1}"),
    *("2020-01-01", '"viewer=root"', '"admin="', '"viewer=a\\u0000b"', '"ada=192.168.0.200,fwmark/7"', '"ada=fwmark"'),
    *('"ada=,"', '"=1"', '"' + "x" * 5000 + '"', '"/etc/passwd"', '"/"', "'''\n'''", '"$HOME"', "[" * 2000, '"é"'),
)
VARIABLES = st.sampled_from((*(each.strip('"') for each in VALUES if "\\u0000" not in each), "\udcff", "a b c"))


def lines_of(keys: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """A settings file."""
    line = st.tuples(st.sampled_from(keys), st.sampled_from(VALUES)).map(" = ".join)
    return st.lists(line, max_size=4).map("\n".join).map(str.encode).flatmap(spoilt) | st.binary(max_size=100)


def variables_of(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    """Some of the variables that a program reads."""
    names = st.sampled_from([f"LVS_{key.upper()}" for key in keys if key != "config"])
    return st.dictionaries(names, VARIABLES, max_size=2)


@contextmanager
def environment(variables: Mapping[str, str], home: Path) -> Iterator[None]:
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("LVS_"):
            del os.environ[name]
    os.environ.update({**variables, "XDG_CONFIG_HOME": str(home)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("program", ["lvs-director", "lvs-realserver"])
def test_settings_of_an_agent(program: str, fuzz: Fuzz, tmp_path: Path) -> None:
    """It has them, or ends with status 2 and one line that begins with its name and names a key."""
    file = tmp_path / "settings.toml"

    def check(text: bytes, variables: dict[str, str]) -> None:
        file.write_bytes(text)
        said = io.StringIO()
        with environment(variables, tmp_path), redirect_stderr(said):
            try:
                read_settings(program, 9710, ["--config", str(file)])
            except SystemExit as ended:
                assert ended.code == 2
                assert_one_line(said.getvalue(), f"{program}: ")

    fuzz(check, lines_of(AGENT_KEYS), variables_of(AGENT_KEYS), examples=150)


def assert_one_line(text: str, beginning: str = "") -> None:
    assert text.startswith(beginning)
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1, text


def test_settings_of_the_command(fuzz: Fuzz, tmp_path: Path) -> None:
    """It knows the site then, or there is an error that names a key."""
    file = tmp_path / "settings.toml"

    def check(text: bytes, variables: dict[str, str]) -> None:
        file.write_bytes(text)
        with environment(variables, tmp_path):
            try:
                make_site(load_settings({}, file))
            except InvalidInputError as error:
                assert error.field
                assert len(error.message.splitlines()) == 1, error.message

    keys = (*DEFAULTS, "config", "nothing")
    fuzz(check, lines_of(keys), variables_of(keys), examples=150)


def test_deny_lists(fuzz: Fuzz, tmp_path: Path) -> None:
    """A list that can be read, or InvalidInputError; while the agent runs the list from before stays."""
    file = tmp_path / "denied"
    good = b"# stolen\n00:AB:cd  # Ada's laptop\nff\n"

    def check(text: bytes) -> None:
        file.write_bytes(text)
        with suppress(InvalidInputError):
            DenyList(file)
        file.write_bytes(good)
        running = DenyList(file)
        file.write_bytes(text + b"\n!\n")
        assert running.serials() == {"abcd", "ff"}

    fuzz(check, spoilt(good), examples=200)


def test_the_audits_files(fuzz: Fuzz, tmp_path: Path) -> None:
    """What cannot be read is left out, what can be stays, and the next record is written."""
    file = tmp_path / "audit.jsonl"
    lines = b'{"number": 1, "caller": "ada"}\n{"number": 2, "time": "2026-01-01T00:00:00Z", "changes": [{}]}\n'
    odd = st.sampled_from(
        (b'{"number": 1e400}\n', b"[" * 5000, b'{"number": ' + b"9" * 5000 + b"}\n", b"1\n", b"null\n")
    )

    def check(text: bytes, more: bytes) -> None:
        file.write_bytes(text + more)
        audit = open_audit(tmp_path)
        audit.append(AuditRecord(caller="eve"))
        (_, newest), *_ = open_audit(tmp_path).newest_first()
        assert newest.caller == "eve"

    fuzz(check, spoilt(lines), odd | st.just(b""), examples=200)


def test_tables_to_restore(fuzz: Fuzz, tmp_path: Path) -> None:
    """Rules of ipvsadm, or JSON: a table, lines that are named as bad, or InvalidInputError."""
    file = tmp_path / "rules"
    rules = b"-A -t 192.168.0.200:80 -s sh -p 300 -M 255.255.255.0\n-a -t 192.168.0.200:80 -r 192.168.0.104 -g -w 1\n"
    key = '{"service_address": {"protocol": "PROTOCOL_TCP", "address": "192.168.0.200", "port": 80}}'
    server = f'{{"key": {key}, "persistence": {{"timeout": "300s"}}}}'
    destination = '{"key": {"address": "192.168.0.104", "port": 80}, "weight": 3}'
    entry = f'{{"key": {key}, "virtual_server": {server}, "destinations": [{destination}]}}'
    text = f'{{"entries": [{entry}]}}'.encode()
    odd = st.sampled_from(
        (b"[" * 5000, b"{" * 5000, b'{"a":' * 2000, b"-A -f " + b"9" * 5000, b"-A\0", b"-a -t '", b"1e400")
    )

    def check(data: bytes) -> None:
        file.write_bytes(data)
        with suppress(InvalidInputError):
            read_rules_file(file)

    fuzz(check, spoilt(rules) | spoilt(text) | odd, examples=400)


def test_identities(fuzz: Fuzz) -> None:
    """An identity is written as it was read, or InvalidInputError."""
    parts = st.sampled_from(("spiffe:", "", "example.org", "lvs", "admin", "ada", "é", "..", "a\n", "x" * 300, "%61"))
    near = st.lists(parts, max_size=7).map("/".join)

    def check(text: str) -> None:
        with suppress(InvalidInputError):
            assert str(parse_identity(text, "certificate")) == text

    fuzz(check, near | st.text() | st.just(uri("admin")), examples=500)


def test_certificates(fuzz: Fuzz, tmp_path: Path) -> None:
    """DER of which bytes are others: read, or InvalidInputError; also as an agent's own files."""
    ca = Authority(tmp_path)
    issued = ca.issue("server", uri("realserver"), addresses=["127.0.0.1"]).files
    der = x509.load_pem_x509_certificate(issued.cert.read_bytes()).public_bytes(Encoding.DER)
    key = issued.key.read_bytes()
    changed = TlsFiles(ca=issued.ca, cert=tmp_path / "changed.crt", key=tmp_path / "changed.key")

    def check(places: list[tuple[int, int]], pem: bytes, key_pem: bytes) -> None:
        data = bytearray(der)
        for place, byte in places:
            data[place % len(der)] = byte
        armoured = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % base64.b64encode(bytes(data))
        for text in (armoured, pem):
            with suppress(InvalidInputError):
                read_certificate(text)
                check_key_fits(text, key_pem, "tls_key")
            with suppress(InvalidInputError):
                read_certificate(text).identity("certificate")
            changed.cert.write_bytes(text)
            changed.key.write_bytes(key_pem)
            with suppress(LvsError):
                ServerCertificates(changed, Kind.REALSERVER)

    places = st.lists(st.tuples(st.integers(0, len(der)), st.integers(0, 255)), max_size=4)
    fuzz(check, places, spoilt(issued.cert.read_bytes()), spoilt(key) | st.just(key), examples=120)
