"""Finds what a new virtual server would shadow: programs of the director that listen where IPVS takes the packets."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence

from agent_common.address import Addresses
from agent_common.endpoint import Endpoint
from agent_common.errors import Reason, RefusedError
from agent_common.sockets import Listener, Sockets
from agent_common.virtual_server import (
    FirewallMark,
    IpAddress,
    Protocol,
    ServiceAddress,
    VirtualServerKey,
    format_endpoint,
)


class Shadow:
    """Checks a key against the sockets of the host and the agent's own endpoints.

    A wildcard listener counts only on an address that is the director's own: on a VIP that exists for LVS nobody looks
    for it. made_by_us says which addresses were added for LVS.
    """

    def __init__(
        self,
        addresses: Addresses,
        sockets: Sockets,
        own: Sequence[Endpoint],
        made_by_us: Callable[[IpAddress], bool],
    ) -> None:
        self._addresses = addresses
        self._sockets = sockets
        self._own = own
        self._made_by_us = made_by_us

    def check(self, key: VirtualServerKey) -> None:
        """Raise RefusedError (LISTENER_SHADOWED) naming what listens there."""
        self.check_all([key])

    def check_all(self, keys: Iterable[VirtualServerKey]) -> None:
        """Check many keys; the host is read once."""
        own = {each.address for each in self._addresses.addresses()}
        listeners: dict[Protocol, list[Listener]] = {}
        for key in keys:
            if not isinstance(key, ServiceAddress):
                continue
            if key.protocol not in listeners:
                listeners[key.protocol] = list(self._sockets.listeners(key.protocol))
            is_own_address = key.address in own and not self._made_by_us(key.address)
            self._check(key, listeners[key.protocol], is_own_address)

    def check_marked(self, mark: FirewallMark, vip: IpAddress, *, force: bool = False) -> None:
        """Raise RefusedError (LISTENER_SHADOWED) naming what listens on a VIP: which ports are marked nobody knows.

        What listens on the wildcard address does not count: nobody marks the port of sshd. force lets any program but
        this agent be cut off.
        """
        for endpoint in self._own:
            if _host_of(endpoint) == vip:
                raise _refused(mark, f"this agent itself listens on {endpoint}")
        for protocol in Protocol if not force else ():
            for listener in self._sockets.listeners(protocol):
                if listener.address == vip:
                    raise RefusedError(
                        f"cannot serve {mark} with VIP {vip} on this director: something listens on "
                        f"{format_endpoint(listener.address, listener.port)}, which it cuts off where that is marked; "
                        "use another address, or --force",
                        Reason.LISTENER_SHADOWED,
                        virtual_server=str(mark),
                    )

    def _check(self, key: ServiceAddress, listeners: Iterable[Listener], is_own_address: bool) -> None:
        for endpoint in self._own:
            if key.protocol is Protocol.TCP and _cuts_agent(endpoint, key, is_own_address):
                raise _refused(key, f"this agent itself listens on {endpoint}")
        for listener in listeners:
            if _covers(listener, key, is_own_address):
                raise _refused(key, f"something listens on {format_endpoint(listener.address, listener.port)}")


def _covers(listener: Listener, key: ServiceAddress, is_own_address: bool) -> bool:
    if key.port not in (0, listener.port):
        return False
    wildcard = listener.address.is_unspecified and listener.address.version in (6, key.address.version)
    return listener.address == key.address or (wildcard and is_own_address)


def _cuts_agent(endpoint: Endpoint, key: ServiceAddress, is_own_address: bool) -> bool:
    host = _host_of(endpoint)
    if host is None or key.port not in (0, endpoint.port):
        return False
    return host == key.address or (host.is_unspecified and (is_own_address or key.port == endpoint.port))


def _host_of(endpoint: Endpoint) -> IpAddress | None:
    """Return the address on which the agent listens; None for a unix socket, or a name."""
    try:
        return ipaddress.ip_address(endpoint.host)
    except ValueError:
        return None


def _refused(key: VirtualServerKey, what: str) -> RefusedError:
    return RefusedError(
        f"cannot serve {key} on this director: {what}, which it would cut off; use another address or port",
        Reason.LISTENER_SHADOWED,
        virtual_server=str(key),
    )
