"""Configuration files of the host."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from agent_common.host_files import name_servers

RESOLV_CONF = """\
# nameserver 192.0.2.99
; nameserver 192.0.2.98
search example.com
nameserver 192.0.2.1
nameserver	fe80::1%eth0
nameserver 192.0.2.1
nameserver
nameserver of.no.use
options edns0
"""


def test_name_servers_are_read_once_each_and_comments_are_not(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(RESOLV_CONF)
    assert name_servers((file,)) == [ip_address("192.0.2.1"), ip_address("fe80::1")]


def test_the_name_servers_behind_a_local_one_count_too(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    real.write_text("nameserver 192.0.2.7\n")
    assert name_servers((stub, real)) == [ip_address("127.0.0.53"), ip_address("192.0.2.7")]


def test_a_host_without_the_file_has_no_name_servers(tmp_path: Path) -> None:
    assert name_servers((tmp_path / "resolv.conf",)) == []
