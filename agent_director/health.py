"""Decides about the policies of health checks: what an operation would change, how it is kept, how it is taken back.

What follows from a policy is agent_director.health_watch's business: a policy alone touches nothing in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

from lvsagent.v1 import health_pb2, virtual_server_pb2

from agent_common import wire
from agent_common.changes import Outcome, Reverted
from agent_common.check import DnsCheck, kind_name
from agent_common.check_dns import refuse_unreadable
from agent_common.destination import Destination
from agent_common.errors import ConflictError, Reason, RefusedError
from agent_common.etag import etag_of
from agent_common.health import NO_POLICY, HealthPolicy
from agent_common.operation import Change
from agent_common.virtual_server import IpAddress, VirtualServer, VirtualServerKey
from agent_common.wire_health import pack_policy, unpack_policy
from agent_director.destination import Destinations
from agent_director.health_records import HealthRecords, missing_policy
from agent_director.virtual_server import VirtualServers

Allowed = Callable[[Sequence[str], str], None]
"""Raises RefusedError, which names the field, for a command that may not be run."""


CheckRoute = Callable[[IpAddress], object]
"""Raises RefusedError for a real server whose answers from the VIP are not let in."""


class Healths:
    """The policies of this director's virtual servers."""

    def __init__(
        self,
        records: HealthRecords,
        virtual_servers: VirtualServers,
        destinations: Destinations,
        allowed: Allowed,
        check_route: CheckRoute,
    ) -> None:
        self._check_route = check_route
        self._records = records
        self._virtual_servers = virtual_servers
        self._destinations = destinations
        self._allowed = allowed

    def keys(self) -> list[VirtualServerKey]:
        """Return the virtual servers that have a policy."""
        return list(self._records.policies())

    def get(self, key: VirtualServerKey) -> HealthPolicy:
        """Return a policy; raises NotFoundError."""
        policy = self._records.policy(key)
        if policy is None:
            self._virtual_servers.get(key)
            raise missing_policy(key)
        return policy

    def plan_set(self, request: health_pb2.SetHealthRequest) -> Change:
        """Plan to have a policy."""
        key = wire.unpack_key(request.virtual_server, "virtual_server")
        wanted = unpack_policy(request.policy).validate()
        server = self._virtual_servers.get(key)
        if not self._virtual_servers.is_managed(key):
            raise foreign_server(key)
        statuses = self._destinations.list_all(key)
        destinations = [each.destination for each in statuses if each.managed]
        self.check(wanted, server, destinations)
        wanted.check_quorum(destinations)
        current = self._records.policy(key)
        _check_etag(request.etag, current, key)
        change = _change(key, current, wanted, _describe(key, current, wanted))
        foreign = [str(each.destination.key) for each in statuses if not each.managed]
        if foreign:
            change.warnings.append(f"not checked, since foreign: {', '.join(foreign)}")
        return change

    def check(self, policy: HealthPolicy, server: VirtualServer, destinations: Sequence[Destination]) -> None:
        """Raise InvalidInputError or RefusedError for a policy that does not go with these, or with this director."""
        policy.validate_for(server, destinations)
        for field, argv in policy.commands():
            self._allowed(argv, field)
        for each in destinations:
            check = policy.check_of(each.key)
            if check is not None and check.by_mark:
                self._check_route(each.key.address)
        for field, check in policy.named_checks():
            if isinstance(check.kind, DnsCheck):
                refuse_unreadable(check.kind, f"{field}.dns")

    def plan_delete(self, request: health_pb2.DeleteHealthRequest) -> Change:
        """Plan to have none."""
        key = wire.unpack_key(request.virtual_server, "virtual_server")
        current = self._records.policy(key)
        if current is None:
            if not request.allow_missing:
                raise missing_policy(key)
            return _change(key, None, None, "")
        _check_etag(request.etag, current, key)
        change = _change(key, current, None, f"check {key} no more")
        out = [str(each.destination.key) for each in self._destinations.list_all(key) if each.is_out]
        if out:
            change.actions.append(f"put back what its checks have out: {', '.join(out)}")
        return change

    def write(self, change: health_pb2.HealthChange) -> None:
        """Keep the policy as it is after a change."""
        self._keep(change.virtual_server, change.after if change.HasField("after") else None)

    def revert(self, change: health_pb2.HealthChange) -> Reverted:
        """Bring back the policy that was before, if the one that is there is still that of the change."""
        key = wire.unpack_key(change.virtual_server, "virtual_server")
        current = self._records.policy(key)
        after = unpack_policy(change.after) if change.HasField("after") else None
        before = unpack_policy(change.before) if change.HasField("before") else None
        if current == before:
            return Reverted(outcome=Outcome.NOTHING)
        if current != after:
            why = f"the checks of {key} stay: somebody changed them meanwhile"
            return Reverted(outcome=Outcome.KEPT, details=(why,))
        if before is not None and not self._virtual_servers.is_managed(key):
            why = f"the checks of {key} are not put back: somebody removed the virtual server"
            return Reverted(outcome=Outcome.KEPT, details=(why,))
        self._keep(change.virtual_server, change.before if before is not None else None)
        done = f"put back the checks of {key}" if before is not None else f"checks {key} no more"
        return Reverted(outcome=Outcome.REVERTED, details=(done,))

    def _keep(self, key: virtual_server_pb2.VirtualServerKey, policy: health_pb2.HealthPolicy | None) -> None:
        self._records.set_policy(
            wire.unpack_key(key, "virtual_server"), None if policy is None else unpack_policy(policy)
        )


def etag_of_policy(policy: HealthPolicy | None) -> str:
    """Return the tag of a policy, or NO_POLICY."""
    return NO_POLICY if policy is None else etag_of(pack_policy(policy))


def health_change(
    key: VirtualServerKey, before: HealthPolicy | None, after: HealthPolicy | None
) -> health_pb2.HealthChange:
    """Return a change of a policy, as a message; None: there is none."""
    return health_pb2.HealthChange(
        virtual_server=wire.pack_key(key),
        before=None if before is None else pack_policy(before),
        after=None if after is None else pack_policy(after),
    )


def foreign_server(key: VirtualServerKey) -> RefusedError:
    """Return the error of a virtual server that cannot be checked, since somebody else made it."""
    return RefusedError(
        f"cannot check {key}: it is foreign (this agent did not make it); lvs adopt takes it in",
        Reason.VIRTUAL_SERVER_DIFFERS,
        virtual_server=str(key),
    )


def _check_etag(etag: str, current: HealthPolicy | None, key: VirtualServerKey) -> None:
    if etag and etag != etag_of_policy(current):
        raise ConflictError(
            f"the checks of {key} have changed since they were read", Reason.CHANGED_MEANWHILE, virtual_server=str(key)
        )


def _change(key: VirtualServerKey, before: HealthPolicy | None, after: HealthPolicy | None, action: str) -> Change:
    made = before != after
    return Change(made=made, health=health_change(key, before, after), actions=[action] if made else [])


def _describe(key: VirtualServerKey, before: HealthPolicy | None, after: HealthPolicy) -> str:
    """Say what a policy does, or what of it changes."""
    if before is None or type(before.check.kind) is not type(after.check.kind):
        return f"check {key} by {kind_name(after.check.kind)}"
    changed = [each.name for each in fields(after) if getattr(before, each.name) != getattr(after, each.name)]
    return f"change of the checks of {key}: {', '.join(name.replace('_', ' ') for name in changed)}"
