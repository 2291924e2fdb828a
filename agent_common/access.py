"""Who calls, and whether that one may: by the certificate of the connection, or by the socket of the call."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from agent_common.certificate import read_certificate
from agent_common.deny_list import DenyList
from agent_common.errors import DeniedError, InvalidInputError, Reason, UnknownCallerError
from agent_common.identity import Identity, Kind, Role
from agent_common.operation import Change, Operation
from agent_common.roles import (
    ANYTHING,
    ROLES,
    needed_role,
    needed_role_of,
    operations_in,
    touched,
    touched_by,
    touched_of,
)
from agent_common.transaction_rules import unknown

ADMINS_ALONE = "virtual servers and VIPs by themselves, a VIP's interface, and whatever is forced are an admin's"

_OF_KNOWN = frozenset({"Ready", "Commit", "Renew", "Finish"})

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: a certificate's identity or a local socket's name; vips, if given, are all that it may change."""

    name: str
    role: Role
    vips: frozenset[str] | None = None


class Callers(Protocol):
    """Says who is at the other end of a call."""

    def caller(self, context: Context) -> Caller:
        """Return the caller; raises UnknownCallerError. Before the first await: see host_service.peer_address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Everybody:
    """All who reach a socket: what they may do was decided by who may open it."""

    name: str
    role: Role

    def caller(self, context: Context) -> Caller:
        """Return the same for each call."""
        return Caller(name=self.name, role=self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """Those with a certificate of the agent's trust domain. operator_vips has the lists of operators who have one."""

    own: Identity
    deny_list: DenyList
    operator_vips: Mapping[str, frozenset[str]]

    def caller(self, context: Context) -> Caller:
        """Return whose certificate the connection has; each call anew, since lists and clocks go on."""
        texts = tuple(context.auth_context().get("x509_pem_cert", ()))
        if len(texts) != 1:
            raise UnknownCallerError("the connection has no client certificate", Reason.NO_IDENTITY)
        try:
            certificate = read_certificate(texts[0])
            identity = certificate.identity("certificate")
        except InvalidInputError as error:
            raise UnknownCallerError(error.message, Reason.NO_IDENTITY) from error
        if identity.domain != self.own.domain:
            raise _unknown(identity, f"its trust domain is not {self.own.domain}")
        if not certificate.is_valid_at(datetime.datetime.now(datetime.UTC)):
            raise _unknown(identity, f"it was valid until {certificate.not_after:%Y-%m-%d %H:%M} UTC")
        if certificate.serial in self.deny_list.serials():
            raise _unknown(identity, f"its serial {certificate.serial} is on the agent's deny-list")
        vips = self.operator_vips.get(identity.name) if identity.kind is Kind.OPERATOR else None
        return Caller(name=str(identity), role=role_at(self.own.kind, identity.kind), vips=vips)


def role_at(agent: Kind, caller: Kind) -> Role:
    """Return what the owner of a certificate may do at an agent: a director may look at real servers, no more."""
    match caller:
        case Kind.VIEWER:
            return Role.VIEWER
        case Kind.OPERATOR:
            return Role.OPERATOR
        case Kind.ADMIN:
            return Role.ADMIN
        case Kind.DIRECTOR if agent is Kind.REALSERVER:
            return Role.VIEWER
        case _:
            return Role.NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What stands behind the names in requests: a transaction's operations (None: it is unknown), what a change did."""

    operations: Callable[[str], Awaitable[Sequence[Operation] | None]]
    changes: Callable[[str], Awaitable[Sequence[Change]]]


class Access:
    """Decides about each call of one server."""

    def __init__(self, callers: Callers, remembered: Remembered | None = None) -> None:
        self._callers = callers
        self._remembered = remembered

    def admit(self, path: str, context: Context) -> Caller:
        """Return who calls an RPC, if that one may call it at all; raises UnknownCallerError, DeniedError."""
        caller = self._callers.caller(context)
        needed = ROLES.get(path)
        if needed is None:
            raise DeniedError(f"cannot call {path}: no role may", Reason.ROLE_TOO_LOW)
        _check_role(caller, needed, f"call {path.rpartition('/')[2]}")
        return caller

    async def check(self, caller: Caller, request: Message) -> None:
        """Raise DeniedError unless the caller may do what one message asks for, once `admit` let it in."""
        if caller.role is Role.ADMIN:
            return
        operations = operations_in(request)
        vips = set(touched(request))
        needed = needed_role(operations)
        if self._remembered is not None and (name := getattr(request, "transaction_id", "")):
            earlier = await self._remembered.operations(name)
            _check_known(request, earlier)
            needed = max(needed, needed_role(earlier or ()))
            # One that asks nothing of this agent may be decided here for others: about which VIPs, nobody knows here.
            vips.update([ANYTHING] if earlier == [] else touched_by(earlier or ()))
        if self._remembered is not None and (name := getattr(request, "change_id", "")):
            changes = await self._remembered.changes(name)
            needed = max(needed, needed_role_of(changes))
            vips.update(touched_of(changes))
        name = request.DESCRIPTOR.name.removesuffix("Request")
        _check_role(caller, needed, f"{name} as it was asked for", f" ({ADMINS_ALONE})")
        _check_vips(caller, vips)


def _check_role(caller: Caller, needed: Role, what: str, why: str = "") -> None:
    if caller.role < needed:
        raise DeniedError(
            f"cannot {what}: {caller.name} has the role {caller.role}, and it needs {needed}{why}",
            Reason.ROLE_TOO_LOW,
            role=str(caller.role),
            needed=str(needed),
        )


def _check_known(request: Message, operations: Sequence[Operation] | None) -> None:
    """Raise NotFoundError for an unknown transaction, where one must be known.

    It may be known in a moment, and then nobody would have looked what it is about.
    """
    if operations is None and request.DESCRIPTOR.name.removesuffix("TransactionRequest") in _OF_KNOWN:
        raise unknown(getattr(request, "transaction_id", ""))


def _check_vips(caller: Caller, vips: set[str]) -> None:
    if caller.vips is None:
        return
    for vip in sorted(vips - caller.vips):
        what = "anything but its VIPs" if vip == ANYTHING else vip
        raise DeniedError(
            f"cannot change {what}: {caller.name} may change {', '.join(sorted(caller.vips)) or 'no VIP'} only",
            Reason.VIP_NOT_ALLOWED,
            vip=vip,
        )


def _unknown(identity: Identity, why: str) -> UnknownCallerError:
    return UnknownCallerError(f"the certificate of {identity} is not accepted: {why}", Reason.NO_IDENTITY)
