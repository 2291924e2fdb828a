"""What the kernel answers with an errno (rtnetlink, /proc/sys, packet sockets), as the project's errors. No I/O."""

from __future__ import annotations

import errno
import os
from collections.abc import Container

from agent_common.errors import DiffersError, LvsError, NotFoundError, Reason, RefusedError

NET_ADMIN = "CAP_NET_ADMIN"
NET_RAW = "CAP_NET_RAW"


def kernel_refusal(
    number: int, doing: str, *, capability: str = NET_ADMIN, denials: Container[int] = frozenset({errno.EPERM})
) -> LvsError:
    """Return the error for an errno; doing completes "cannot …", denials are what a missing capability looks like."""
    name = errno.errorcode.get(number, str(number))
    text = f"{os.strerror(number)} ({name})"
    if number in denials:
        hint = f"run as a user with {capability} in this network namespace"
        return RefusedError(f"cannot {doing}: {text}; {hint}", Reason.NO_CAPABILITY, capability=capability, errno=name)
    match number:
        case errno.EEXIST:
            return DiffersError(f"cannot {doing}: it is there already", Reason.KERNEL_REFUSED, errno=name)
        case errno.EADDRNOTAVAIL | errno.ESRCH:
            return NotFoundError(f"cannot {doing}: it is not there", Reason.VIP_NOT_FOUND, errno=name)
        case errno.ENODEV | errno.ENXIO:
            return RefusedError(f"cannot {doing}: there is no such interface", Reason.NO_DEVICE, errno=name)
        case errno.EACCES:
            # What the kernel says for an IPv6 address on an interface where IPv6 is switched off.
            text += "; is IPv6 switched off there (sysctl net/ipv6/conf/…/disable_ipv6)?"
    return RefusedError(f"cannot {doing}: the kernel refused: {text}", Reason.KERNEL_REFUSED, errno=name)
