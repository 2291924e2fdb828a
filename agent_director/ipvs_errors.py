"""What IPVS answers with an errno, as the project's errors; the kernel adapter and its fake share it. No I/O."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from agent_common.destination import DestinationKey
from agent_common.errors import (
    ConflictError,
    DiffersError,
    InternalError,
    LvsError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.virtual_server import VirtualServer, VirtualServerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked of IPVS, for messages: a verb ("add"), and the objects that it is about."""

    verb: str
    key: VirtualServerKey | None = None
    destination: DestinationKey | None = None
    virtual_server: VirtualServer | None = None
    daemon: SyncDaemon | SyncRole | None = None

    def __str__(self) -> str:
        if self.daemon is not None:
            return f"{self.verb} sync daemon {self.daemon}"
        if self.destination is not None:
            return f"{self.verb} destination {self.destination} of {self.key}"
        if self.key is not None:
            return f"{self.verb} virtual server {self.key}"
        return self.verb

    @property
    def metadata(self) -> dict[str, str]:
        """The names of the objects, as an error carries them."""
        names = {"virtual_server": self.key, "destination": self.destination}
        return {name: str(value) for name, value in names.items() if value is not None}


def ipvs_missing(request: Request) -> RefusedError:
    """Return the error for a kernel without the IPVS netlink family."""
    return RefusedError(
        f"cannot {request}: this kernel has no IPVS; load the ip_vs module (modprobe ip_vs)",
        Reason.IPVS_MISSING,
        **request.metadata,
    )


def table_changed(request: Request) -> ConflictError:
    """Return the error for a dump that the kernel kept marking as overtaken by changes (NLM_F_DUMP_INTR)."""
    return ConflictError(
        f"cannot {request}: the table changed during every reading; try again",
        Reason.CHANGED_MEANWHILE,
        **request.metadata,
    )


def refusal(request: Request, number: int, detail: str = "") -> LvsError:
    """Return the error for an errno of IPVS (net/netfilter/ipvs/ip_vs_ctl.c); the detail is the extended ack's."""
    names = request.metadata
    match number:
        case errno.EPERM:
            message = "not permitted; run as a user with CAP_NET_ADMIN in this network namespace"
            return RefusedError(f"cannot {request}: {message}", Reason.NO_CAPABILITY, **names)
        case errno.EEXIST if request.destination is not None:
            message = f"cannot {request}: it is there already; edit it, or remove it first"
            return DiffersError(message, Reason.DESTINATION_DIFFERS, **names)
        case errno.EEXIST if request.key is not None:
            message = f"cannot {request}: it is there already; edit it, or remove it first"
            return DiffersError(message, Reason.VIRTUAL_SERVER_DIFFERS, **names)
        case errno.ESRCH if request.key is not None:
            message = f"cannot {request}: there is no virtual server {request.key}; add it first"
            return NotFoundError(message, Reason.VIRTUAL_SERVER_NOT_FOUND, **names)
        case errno.ENOENT if request.destination is not None:
            message = f"cannot {request}: there is no such destination; add it first"
            return NotFoundError(message, Reason.DESTINATION_NOT_FOUND, **names)
        case errno.ENOENT if request.virtual_server is not None:
            return _module_missing(request, request.virtual_server)
        case _ if request.daemon is not None and number in _DAEMON_ERRORS:
            kind, reason_word, why = _DAEMON_ERRORS[number]
            return kind(f"cannot {request}: {why}", reason_word)
        case errno.ETIMEDOUT | errno.ENOBUFS:  # the answer is lost, and nobody knows whether it was done
            message = "the kernel's answer is lost; read the table to see whether it was done"
            return InternalError(f"cannot {request}: {message}", Reason.INTERNAL, **names)
    name = errno.errorcode.get(number, str(number))
    reason = f"the kernel refused with {name}" + (f": {detail}" if detail else "")
    return RefusedError(f"cannot {request}: {reason}", Reason.KERNEL_REFUSED, errno=name, **names)


_DAEMON_ERRORS: Final[dict[int, tuple[type[LvsError], Reason, str]]] = {
    errno.EEXIST: (DiffersError, Reason.SYNC_DAEMON_DIFFERS, "one of its role runs already; stop it first"),
    errno.ESRCH: (NotFoundError, Reason.SYNC_DAEMON_NOT_FOUND, "none runs"),
    errno.ENODEV: (RefusedError, Reason.NO_DEVICE, "there is no such interface"),
}


def _module_missing(request: Request, virtual_server: VirtualServer) -> RefusedError:
    """Name the scheduler, and the persistence engine where there is one: ENOENT does not say which of them it was."""
    engine = virtual_server.persistence_engine
    what = f"scheduler {virtual_server.scheduler}" + (f" or persistence engine {engine}" if engine else "")
    load = f"modprobe ip_vs_{virtual_server.scheduler}" + (f"; modprobe ip_vs_pe_{engine}" if engine else "")
    return RefusedError(
        f"cannot {request}: the kernel cannot load {what}; load it by hand ({load}) or choose another",
        Reason.MODULE_MISSING,
        scheduler=virtual_server.scheduler,
        **request.metadata,
    )
