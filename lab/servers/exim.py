"""Exim: an SMTP server that greets, or refuses as it is told to, and takes no mail."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from typing import Literal

from lab.host import Host
from lab.servers.server import START_SECONDS, Recipe, Server, folder

Stage = Literal["connect", "helo"]

CONF = """\
primary_hostname = mail.example.test
spool_directory = {folder}/spool
log_file_path = {folder}/spool/%slog
notifier_socket =
local_interfaces = <; [{address}]:{port}
tls_advertise_hosts =
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
acl_smtp_connect = connect
acl_smtp_helo = helo
begin acl
connect:
  warn delay = {delay}s
{connect}
helo:
{helo}
"""


def start(
    host: Host, *, address: str = "0.0.0.0", port: int = 25, refusals: Mapping[Stage, str] | None = None, delay: int = 0
) -> Server:
    """Start Exim; `delay` is in seconds before it greets.

    It answers 220 to a connection and 250 to HELO and EHLO, unless `refusals` has another line: one with 4xx or 5xx.
    """
    own = folder(host, f"exim-{port}")
    (own / "spool").mkdir()
    shutil.chown(own / "spool", "Debian-exim", "Debian-exim")
    said = refusals or {}
    verdicts = {"connect": _verdict(said.get("connect")), "helo": _verdict(said.get("helo"))}
    (own / "conf").write_text(CONF.format(folder=own, address=address, port=port, delay=delay, **verdicts))
    argv = ("/usr/sbin/exim4", "-C", str(own / "conf"), "-bdf", "-oP", str(own / "pid"))
    return Server(
        Recipe(host=host, folder=own, argv=argv, answers=lambda: host.inside(lambda: _answers(address, port)))
    )


def _verdict(line: str | None) -> str:
    """A statement of Exim's access control; a line that begins with the verdict's own digit replaces its answer."""
    if line is None:
        return "  accept"
    return f"  {'defer' if line.startswith('4') else 'deny'} message = {line}"


def _answers(address: str, port: int) -> bool:
    with socket.create_connection((address, port), START_SECONDS) as connection:
        return connection.recv(512)[:1] in {b"2", b"4", b"5"}
