"""Destinations as they are: what the kernel has, joined with what is on record and what checks say. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from agent_common.destination import (
    WHOLE,
    DestinationHealth,
    DestinationKey,
    DestinationStatus,
    Standing,
    destination_order,
    effective,
)
from agent_common.state import Body, State
from agent_common.virtual_server import VirtualServerKey
from agent_director.destination_record import KIND, read_config, read_intent, record_name
from agent_director.health_records import HealthRecords, Stood
from agent_director.ipvs import Ipvs

Report = Callable[[VirtualServerKey, DestinationKey], DestinationHealth | None]
"""Says what the checks of a destination say; None for one that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Health:
    """How the destinations of one virtual server stand, and what says more; report None: nothing is checked there."""

    stood: Mapping[DestinationKey, Stood]
    report: Callable[[DestinationKey], DestinationHealth | None] | None

    def standing(self, key: DestinationKey) -> Standing:
        return self.stood[key].standing if key in self.stood else WHOLE


class DestinationView:
    """The destinations of this director's virtual servers; report is asked of those whose server has a policy."""

    def __init__(self, ipvs: Ipvs, state: State, health: HealthRecords, report: Report) -> None:
        self._ipvs = ipvs
        self._state = state
        self._health = health
        self._report = report

    def list_all(self, server: VirtualServerKey, *, statistics: bool = False) -> list[DestinationStatus]:
        """Return the destinations of a virtual server in the order of their keys, or with their counters."""
        begin = record_name(server, "")
        records = self._state.list(KIND, begin)
        statuses = self._ipvs.destinations(server, statistics=statistics)
        if records:
            health = self._health_in(server)
            statuses = [
                self._joined(status, records.get(f"{begin}{status.destination.key}"), health) for status in statuses
            ]
            statuses += self._absent(server, statuses, records, health)
        return sorted(statuses, key=lambda status: destination_order(status.destination.key))

    def find(
        self, server: VirtualServerKey, key: DestinationKey, *, statistics: bool = False
    ) -> DestinationStatus | None:
        """Return a destination, or None where there is none."""
        status = self.in_kernel(server, key, statistics=statistics)
        body = self._state.get(KIND, record_name(server, key))
        health = self._health_in(server)
        if status is not None:
            return self._joined(status, body, health)
        records = {} if body is None else {record_name(server, key): body}
        return next(iter(self._absent(server, (), records, health)), None)

    def in_kernel(
        self, server: VirtualServerKey, key: DestinationKey, *, statistics: bool = False
    ) -> DestinationStatus | None:
        """Return what the kernel alone says of it, or None."""
        statuses = self._ipvs.destinations(server, statistics=statistics)
        return next((each for each in statuses if each.destination.key == key), None)

    def _health_in(self, server: VirtualServerKey) -> _Health:
        stood = self._health.stood(server)
        is_checked = self._health.policy(server) is not None
        return _Health(stood=stood, report=(lambda key: self._report(server, key)) if is_checked else None)

    def _joined(self, status: DestinationStatus, body: Body | None, health: _Health) -> DestinationStatus:
        """Join what the kernel says with what is on record.

        A drain that somebody ended by hand is over, and one that is out and got a weight by hand has that weight.
        """
        if body is None:
            return status
        destination = status.destination
        weight, draining = read_intent(body)
        standing = health.standing(destination.key) if health.stood else WHOLE
        if draining or standing is not WHOLE:
            meant = replace(destination, weight=weight, draining=draining)
            if effective(meant, standing).weight == status.current_weight:
                destination = meant
        managed = bool(body["managed"])
        return DestinationStatus(  # not `replace`, which takes twice as long: there are thousands
            destination=destination,
            current_weight=status.current_weight,
            active=status.active,
            inactive=status.inactive,
            persistent=status.persistent,
            managed=managed,
            statistics=status.statistics,
            health=health.report(destination.key) if managed and health.report is not None else None,
        )

    def _absent(
        self,
        server: VirtualServerKey,
        there: Iterable[DestinationStatus],
        records: Mapping[str, Body],
        health: _Health,
    ) -> list[DestinationStatus]:
        """Return the destinations that are on record and not in the kernel, because they are out by removal."""
        present = {status.destination.key for status in there}
        missing = [key for key, each in health.stood.items() if each.standing.removed and key not in present]
        return [
            DestinationStatus(
                destination=read_config(records[name]["config"]),
                current_weight=0,
                active=0,
                inactive=0,
                persistent=0,
                managed=True,
                health=health.report(key) if health.report is not None else None,
                absent=True,
            )
            for key in missing
            if (name := record_name(server, key)) in records
        ]
