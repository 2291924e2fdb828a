"""The fake is to the rest of the agent what the kernel is; see the lab for the same checks there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_common.errors import NotFoundError, Reason, RefusedError
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.timeouts import KERNEL_TIMEOUTS
from agent_common.virtual_server import VirtualServer
from agent_director.fake_ipvs import FakeIpvs
from agent_director.ipvs import Ipvs
from tests.director.ipvs_contract import every_check, raises
from tests.director.ipvs_samples import WEB, destination


@every_check
def test_contract(check: Callable[[Ipvs], None]) -> None:
    """The fake keeps the contract of Ipvs."""
    check(FakeIpvs())


def test_only_known_schedulers_load() -> None:
    """A scheduler outside the set is refused as the kernel refuses one whose module is missing, until it is there."""
    ipvs = FakeIpvs(schedulers=frozenset({"rr"}))
    with raises(Reason.MODULE_MISSING, RefusedError, WEB, "modprobe ip_vs_wlc"):
        ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="wlc"))
    ipvs.schedulers = frozenset({"wlc"})
    ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="wlc"))


def test_kernel_without_ipvs() -> None:
    """Without the module every call says what to load, and what was asked for; with it all goes on."""
    ipvs = FakeIpvs(loaded=False)
    calls: list[Callable[[], object]] = [
        ipvs.info,
        ipvs.virtual_servers,
        lambda: ipvs.virtual_server(WEB),
        lambda: ipvs.add_virtual_server(VirtualServer(key=WEB)),
        lambda: ipvs.edit_virtual_server(VirtualServer(key=WEB)),
        lambda: ipvs.remove_virtual_server(WEB),
        lambda: ipvs.destinations(WEB),
        lambda: ipvs.add_destination(WEB, destination()),
        lambda: ipvs.edit_destination(WEB, destination()),
        lambda: ipvs.remove_destination(WEB, destination().key),
        ipvs.zero,
        lambda: ipvs.zero(WEB),
        ipvs.timeouts,
        lambda: ipvs.set_timeouts(KERNEL_TIMEOUTS),
        ipvs.sync_daemons,
        lambda: ipvs.start_sync_daemon(SyncDaemon(role=SyncRole.MASTER, interface="eth0")),
        lambda: ipvs.stop_sync_daemon(SyncRole.MASTER),
    ]
    for call in calls:
        with raises(
            Reason.IPVS_MISSING, RefusedError, "this kernel has no IPVS; load the ip_vs module (modprobe ip_vs)"
        ):
            call()
    ipvs.loaded = True
    assert ipvs.virtual_servers() == []


def test_connections_are_what_was_set_and_outlive_an_edit() -> None:
    """Connection counts are the test's to set; an edit keeps them, and a destination added again starts with none."""
    ipvs = FakeIpvs()
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    with pytest.raises(NotFoundError):
        ipvs.set_connections(WEB, destination().key, active=1)
    ipvs.add_destination(WEB, destination())
    ipvs.set_connections(WEB, destination().key, active=3, inactive=2, persistent=1)
    ipvs.edit_destination(WEB, destination(weight=0))
    (status,) = ipvs.destinations(WEB)
    assert (status.current_weight, status.active, status.inactive, status.persistent) == (0, 3, 2, 1)
    ipvs.remove_destination(WEB, destination().key)
    ipvs.add_destination(WEB, destination())
    assert ipvs.destinations(WEB)[0].active == 0
