"""The name that a certificate must have, where only the Host header of an HTTP check says it."""

from __future__ import annotations

import pytest

from agent_common.check import Check, HttpCheck, Tls
from agent_common.wire_check import pack_check, unpack_check


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.example.org", "www.example.org"),
        ("www.example.org:8443", "www.example.org"),
        ("192.168.0.200:443", "192.168.0.200"),
        ("[2001:db8::200]", "2001:db8::200"),
        ("[2001:db8::200]:443", "2001:db8::200"),
    ],
)
def test_it_is_the_host_without_port_and_brackets(host: str, name: str) -> None:
    message = pack_check(Check(kind=HttpCheck(host=host, tls=Tls())))
    kind = unpack_check(message).check().kind
    assert isinstance(kind, HttpCheck)
    assert kind.tls is not None
    assert kind.tls.server_name == name
