"""What IPVS answers becomes one of the project's errors: the reason, the names, and what to do next."""

from __future__ import annotations

import errno

import pytest

from agent_common.errors import (
    ConflictError,
    DiffersError,
    InternalError,
    LvsError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.virtual_server import Persistence, VirtualServer
from agent_director.ipvs_errors import Request, ipvs_missing, refusal, table_changed
from tests.director.ipvs_samples import WEB, destination

SIP = VirtualServer(key=WEB, persistence=Persistence(timeout=60), persistence_engine="sip")
LIST = Request(verb="list virtual servers")
READ = Request(verb="read", key=WEB)
ADD = Request(verb="add", key=WEB, virtual_server=VirtualServer(key=WEB))
ADD_SIP = Request(verb="add", key=WEB, virtual_server=SIP)
ADD_DESTINATION = Request(verb="add", key=WEB, destination=destination().key)


@pytest.mark.parametrize(
    ("request_", "number", "kind", "reason", "said"),
    [
        (LIST, errno.EPERM, RefusedError, Reason.NO_CAPABILITY, "CAP_NET_ADMIN"),
        (ADD, errno.EEXIST, DiffersError, Reason.VIRTUAL_SERVER_DIFFERS, "edit it"),
        (ADD_DESTINATION, errno.EEXIST, DiffersError, Reason.DESTINATION_DIFFERS, "edit it"),
        (READ, errno.ESRCH, NotFoundError, Reason.VIRTUAL_SERVER_NOT_FOUND, "add it first"),
        (ADD_DESTINATION, errno.ESRCH, NotFoundError, Reason.VIRTUAL_SERVER_NOT_FOUND, "no virtual server tcp/"),
        (ADD_DESTINATION, errno.ENOENT, NotFoundError, Reason.DESTINATION_NOT_FOUND, "no such destination"),
        (ADD, errno.ENOENT, RefusedError, Reason.MODULE_MISSING, "(modprobe ip_vs_wlc)"),
        (ADD_SIP, errno.ENOENT, RefusedError, Reason.MODULE_MISSING, "modprobe ip_vs_wlc; modprobe ip_vs_pe_sip"),
        (READ, errno.ENOENT, RefusedError, Reason.KERNEL_REFUSED, "ENOENT"),
        (LIST, errno.EEXIST, RefusedError, Reason.KERNEL_REFUSED, "EEXIST"),
        (LIST, errno.EINVAL, RefusedError, Reason.KERNEL_REFUSED, "EINVAL: why"),
        (LIST, 4000, RefusedError, Reason.KERNEL_REFUSED, "4000: why"),
        (ADD, errno.ETIMEDOUT, InternalError, Reason.INTERNAL, "read the table"),
        (ADD, errno.ENOBUFS, InternalError, Reason.INTERNAL, "read the table"),
    ],
)
def test_errno_is_mapped(request_: Request, number: int, kind: type[LvsError], reason: Reason, said: str) -> None:
    """Each errno has its error, and the message says what was asked for, of what, and what to do."""
    error = refusal(request_, number, "why")
    assert (type(error), error.reason) == (kind, reason)
    assert str(error).startswith(f"cannot {request_}: ")
    assert said in str(error)
    assert request_.metadata.items() <= error.metadata.items()


def test_requests_are_named() -> None:
    """A message names the destination and the virtual server that it is about."""
    assert str(ADD_DESTINATION) == "add destination 192.168.0.104:80 of tcp/192.168.0.200:80"
    assert str(ADD) == "add virtual server tcp/192.168.0.200:80"
    assert ADD_DESTINATION.metadata == {"virtual_server": "tcp/192.168.0.200:80", "destination": "192.168.0.104:80"}


def test_errors_without_an_errno() -> None:
    """A kernel without IPVS says what to load; a table that never stood still is a conflict, to be tried again."""
    missing, changed = ipvs_missing(LIST), table_changed(LIST)
    assert missing.reason is Reason.IPVS_MISSING
    assert str(missing) == (
        "cannot list virtual servers: this kernel has no IPVS; load the ip_vs module (modprobe ip_vs)"
    )
    assert (type(changed), changed.reason) == (ConflictError, Reason.CHANGED_MEANWHILE)
    assert "try again" in str(changed)
