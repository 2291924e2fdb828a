"""Certificates that are about to end are told of: in `lvs status`, whose owner must renew them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from lvsagent.v1 import host_service_pb2

from agent_common.certificate import WARN_DAYS, expiry_warning
from agent_common.server_certificates import expires
from cli.expiry import expiry_warnings
from cli.site import AgentName, Role
from tests.certificates import Authority, uri

NOW = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
LB1 = AgentName(role=Role.DIRECTOR, name="lb1")


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ((WARN_DAYS + 1) * DAY, ""),
        (WARN_DAYS * DAY, f"it expires in {WARN_DAYS} days"),
        (DAY / 2, "it expires in 0 days (2026-11-29 00:00 UTC); renew it"),
        (0 * DAY, "it has expired (2026-11-28 12:00 UTC); renew it"),
        (-3 * DAY, "it has expired"),
    ],
)
def test_an_end_is_told_of_when_it_is_time_to_renew(left: datetime.timedelta, said: str) -> None:
    told = expiry_warning("it", NOW + left, NOW)
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_everybody_whose_certificate_ends_is_named(tmp_path: Path) -> None:
    """The agents that said until when, and the operator's own files."""
    ca = Authority(tmp_path)
    files = ca.issue("viewer", uri("viewer"), days=(-1, 5)).files
    host = host_service_pb2.GetHostResponse()
    host.certificate_expires.FromDatetime(datetime.datetime.now(datetime.UTC) + 2.5 * DAY)
    fine, plain = host_service_pb2.GetHostResponse(), host_service_pb2.GetHostResponse()
    fine.certificate_expires.FromDatetime(datetime.datetime.now(datetime.UTC) + 300 * DAY)
    hosts = [(LB1, host), (LB1, fine), (LB1, plain)]
    own, director = expiry_warnings(hosts, files, datetime.datetime.now(datetime.UTC))
    assert own.startswith("your certificate expires in 4 days")
    assert director.startswith("the certificate of director lb1 expires in 2 days")
    assert expiry_warnings(hosts[1:], None, datetime.datetime.now(datetime.UTC)) == []


def test_an_agent_says_until_when_its_file_is_valid(tmp_path: Path) -> None:
    """That is what new connections are shown; without TLS, or with a file that cannot be read, it says nothing."""
    files = Authority(tmp_path).issue("server", uri("director"), days=(-1, 5)).files
    until = expires(files)
    assert until is not None
    assert 4 < (until - datetime.datetime.now(datetime.UTC)) / DAY <= 5
    files.cert.write_text("no certificate")
    assert expires(files) is None
    assert expires(None) is None
