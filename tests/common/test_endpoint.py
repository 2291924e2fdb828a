"""Where agents are: texts that are endpoints, texts that are not, and who may be reached in plaintext."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.endpoint import Endpoint, TlsFiles, check_plaintext, parse_endpoint, tls_files
from agent_common.errors import InvalidInputError


def parsed(text: str) -> Endpoint:
    return parse_endpoint(text, "listen", 9710)


@pytest.mark.parametrize(
    ("text", "endpoint", "written"),
    [
        ("d1", Endpoint(host="d1", port=9710), "d1:9710"),
        ("d1:1", Endpoint(host="d1", port=1), "d1:1"),
        ("d1.example.com:65535", Endpoint(host="d1.example.com", port=65535), "d1.example.com:65535"),
        ("192.168.0.10", Endpoint(host="192.168.0.10", port=9710), "192.168.0.10:9710"),
        ("0.0.0.0:9711", Endpoint(host="0.0.0.0", port=9711), "0.0.0.0:9711"),
        ("2001:db8::10", Endpoint(host="2001:db8::10", port=9710), "[2001:db8::10]:9710"),
        ("[2001:db8::10]", Endpoint(host="2001:db8::10", port=9710), "[2001:db8::10]:9710"),
        ("[2001:db8::10]:1", Endpoint(host="2001:db8::10", port=1), "[2001:db8::10]:1"),
        ("::", Endpoint(host="::", port=9710), "[::]:9710"),
        ("fe80::1%eth0", Endpoint(host="fe80::1%eth0", port=9710), "[fe80::1%eth0]:9710"),
        ("unix:/run/x.sock", Endpoint(path="/run/x.sock"), "unix:/run/x.sock"),
    ],
)
def test_an_endpoint_is_read_and_written(text: str, endpoint: Endpoint, written: str) -> None:
    assert parsed(text) == endpoint
    assert str(endpoint) == written
    assert parsed(written) == endpoint


@given(st.ip_addresses(), st.integers(1, 65535))
def test_whatever_is_written_is_read_back(address: object, port: int) -> None:
    if isinstance(address, IPv6Address) and address.scope_id:
        return
    endpoint = Endpoint(host=str(address), port=port)
    assert parsed(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":9710",
        "d1:",
        "d1:0",
        "d1:65536",
        "d1:-1",
        "d1:http",
        "d1:80x",
        "d1:\u0661",
        "unix:",
        "unix:relative",
        "[]",
        "[]:1",
        "[::1",
        "[::1]1",
        "[::1]:",
        "[d1]:1",
        "::1]",
        "a:b:c",
        "1:2:3",
        "192.168.0.300",
        "192.168.0.300:1",
        "1.2.3",
        "http://d1:9710",
        "d1/x",
        "d 1",
        " d1",
        "d1\n",
        "*:9710",
        "user@d1",
    ],
)
def test_what_is_no_endpoint_names_the_field(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parsed(text)
    assert caught.value.field == "listen"
    assert caught.value.message.startswith("listen: ")


@given(st.text(max_size=20))
def test_any_text_is_an_endpoint_or_names_the_field(text: str) -> None:
    try:
        endpoint = parsed(text)
    except InvalidInputError as error:
        assert error.field == "listen"
    else:
        assert parsed(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("unix:/x", True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.10", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_only_programs_of_this_host_reach_loopback_and_unix_sockets(text: str, local: bool) -> None:
    endpoint = parsed(text)
    assert endpoint.is_local is local
    if local:
        check_plaintext([endpoint], "listen", insecure=False)
    else:
        with pytest.raises(InvalidInputError, match="--insecure") as caught:
            check_plaintext([parsed("127.0.0.1"), endpoint], "listen", insecure=False)
        assert caught.value.field == "listen"
        assert str(endpoint) in caught.value.message
    check_plaintext([endpoint], "listen", insecure=True)


def test_tls_needs_three_files_or_none() -> None:
    assert tls_files("", "", "") is None
    assert tls_files("a", "b", "c") == TlsFiles(ca=Path("a"), cert=Path("b"), key=Path("c"))
    for ca, cert, key, field in (
        ("", "b", "c", "tls_ca"),
        ("a", "", "c", "tls_cert"),
        ("a", "b", "", "tls_key"),
        ("", "", "c", "tls_ca"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            tls_files(ca, cert, key)
        assert caught.value.field == field


def test_files_are_read_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ca", "cert", "key")]
    for file in files:
        file.write_bytes(file.name.encode())
    made = TlsFiles(ca=files[0], cert=files[1], key=files[2])
    assert made.read() == (b"ca", b"cert", b"key")
    files[1].unlink()
    with pytest.raises(InvalidInputError, match="cert: No such file") as caught:
        made.read()
    assert caught.value.field == "tls_cert"
