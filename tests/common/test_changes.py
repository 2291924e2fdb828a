"""Changes of a host: all or none, once, by name, and revertible whatever happened in between."""

from __future__ import annotations

import pytest

from agent_common.changes import (
    KEPT_CHANGES,
    BatchError,
    Changes,
    Outcome,
    Reverted,
)
from agent_common.destination import Destination, DestinationKey
from agent_common.errors import (
    UNFINISHED,
    ConflictError,
    DiffersError,
    ExhaustedError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.fake_state import FakeState
from agent_common.neighbours import NoNeighbours
from agent_common.operation import Change, Operation
from agent_common.vip import VipMode
from agent_common.virtual_server import VirtualServer, VirtualServerKey, parse_key
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder, run

OTHER = parse_key("tcp/192.168.0.201:80")
RS1, RS2 = destination("192.168.0.104"), destination("192.168.0.105")


class Died(BaseException):
    """The agent was killed at this point."""


class BrittleIpvs(FakeIpvs):
    """IPVS where things go wrong: keys that it does not let go, a table that changes under us, an agent that dies."""

    def __init__(self) -> None:
        super().__init__(schedulers=frozenset({"wlc", "rr"}))
        self.held: set[VirtualServerKey] = set()
        self.dies_after_adding = False
        self.broken = False
        self.loses_destinations = False
        self.loses_answers = False

    def add_virtual_server(self, virtual_server: VirtualServer) -> None:
        if self.broken:
            raise ZeroDivisionError("a defect")
        super().add_virtual_server(virtual_server)
        if self.loses_answers:
            raise InternalError("the answer is lost", Reason.INTERNAL)
        if self.dies_after_adding:
            raise Died

    def add_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        super().add_destination(key, destination)
        if self.dies_after_adding:
            raise Died
        if self.loses_destinations:
            self.remove_destination(key, destination.key)

    def remove_virtual_server(self, key: VirtualServerKey) -> None:
        if key in self.held:
            raise RefusedError(f"cannot remove {key}", Reason.KERNEL_REFUSED)
        super().remove_virtual_server(key)


class Host(DirectorHost):
    """A director on a brittle IPVS."""

    def __init__(self, ipvs: BrittleIpvs | None = None, state: FakeState | None = None) -> None:
        self.brittle = ipvs or BrittleIpvs()
        super().__init__(ipvs=self.brittle, state=state)

    def restarted(self) -> Host:
        self.brittle.dies_after_adding = self.brittle.broken = False
        return Host(self.brittle, self.state)

    def record(self, change_id: str) -> object:
        body = self.state.get("change", change_id)
        return body and body["status"]


@pytest.fixture
def host() -> Host:
    return Host()


def server(key: VirtualServerKey = WEB, scheduler: str | None = None) -> Operation:
    return operations.create_virtual_server(key, scheduler, None)


def backend(key: DestinationKey, weight: int | None = None, of: VirtualServerKey = WEB) -> Operation:
    return operations.create_destination(of, key, None, weight)


async def test_what_was_planned_is_made_and_read_back(host: Host) -> None:
    change = await host.changes.apply(server(), "c1")
    assert (change.made, change.id, list(change.actions)) == (True, "c1", [f"add virtual server {WEB} wlc"])
    assert host.ipvs.virtual_servers() == [VirtualServer(key=WEB)]


async def test_the_same_name_again_gives_the_first_answer_and_makes_nothing(host: Host) -> None:
    """A caller whose answer got lost asks again; meanwhile somebody may have changed what it made."""
    first = await host.changes.apply(server(), "c1")
    host.ipvs.remove_virtual_server(WEB)
    assert await host.changes.apply(server(), "c1") == first
    assert host.ipvs.virtual_servers() == []


async def test_the_first_answer_survives_a_restart_of_the_agent_unchanged(host: Host) -> None:
    """Weight 0 and what is not set come back from the record as they went in."""
    await host.changes.apply(server(), "c1")
    first = await host.changes.apply_all([backend(RS1.key, 0), backend(RS2.key)], "c2")
    again = await host.restarted().changes.apply_all([backend(RS1.key, 0), backend(RS2.key)], "c2")
    assert again == first
    assert again[0].destination.after.HasField("weight")


async def test_an_operation_without_a_name_is_given_one_that_reverts_it(host: Host) -> None:
    change = await host.changes.apply(server(), "")
    assert len(change.id) == 36
    assert (await host.changes.apply(server(OTHER), "")).id != change.id
    assert (await host.changes.revert(change.id)).outcome is Outcome.REVERTED
    assert [each.key for each in host.ipvs.virtual_servers()] == [OTHER]


async def test_a_name_that_is_too_long_is_refused_and_changes_nothing(host: Host) -> None:
    for ask in (host.changes.apply(server(), "x" * 65), host.changes.revert("x" * 65)):
        with pytest.raises(InvalidInputError) as caught:
            await ask
        assert caught.value.field == "change_id"
    assert host.ipvs.virtual_servers() == []


async def test_what_is_in_place_is_not_made_and_its_revert_leaves_it(host: Host) -> None:
    await host.changes.apply(server(), "c1")
    assert not (await host.changes.apply(server(), "c2")).made
    assert await host.changes.revert("c2") == Reverted(outcome=Outcome.NOTHING)
    assert host.ipvs.virtual_servers() == [VirtualServer(key=WEB)]


async def test_a_revert_brings_back_what_was(host: Host) -> None:
    await host.changes.apply(server(), "c1")
    await host.changes.apply(backend(RS1.key, 5), "c2")
    before = table(host.ipvs)
    await host.changes.apply(operations.update_destination(WEB, RS1.key, weight=9), "c3")
    assert table(host.ipvs) != before
    assert (await host.changes.revert("c3")).outcome is Outcome.REVERTED
    assert table(host.ipvs) == before


async def test_a_second_revert_finds_nothing(host: Host) -> None:
    await host.changes.apply(server(), "c1")
    assert (await host.changes.revert("c1")).outcome is Outcome.REVERTED
    assert await host.changes.revert("c1") == Reverted(outcome=Outcome.NOTHING)


async def test_a_revert_of_the_unknown_leaves_a_tombstone_so_that_a_late_change_is_refused(host: Host) -> None:
    assert await host.changes.revert("c1") == Reverted(outcome=Outcome.NOTHING)
    for changes in (host.changes, host.restarted().changes):
        with pytest.raises(ConflictError, match="it was reverted already") as caught:
            await changes.apply(server(), "c1")
        assert caught.value.reason is Reason.CHANGE_REVERTED
    assert host.ipvs.virtual_servers() == []


async def test_a_change_that_was_reverted_is_refused_if_it_comes_once_more(host: Host) -> None:
    await host.changes.apply(server(), "c1")
    await host.changes.revert("c1")
    with pytest.raises(ConflictError):
        await host.changes.apply(server(), "c1")
    assert host.ipvs.virtual_servers() == []


async def test_validate_only_says_what_would_be_done_and_changes_nothing(host: Host) -> None:
    """Neither the kernel nor the state: the name is still free for the change itself."""
    planned = await host.changes.apply(server(), "c1", validate_only=True)
    assert planned.made
    assert host.ipvs.virtual_servers() == []
    assert host.state.list("change") == {}
    assert host.state.list("virtual_server") == {}
    made = await host.changes.apply(server(), "c1")
    assert made == planned


async def test_a_whole_batch_is_validated_against_what_is_planned_before_it(host: Host) -> None:
    vip = operations.create_vip(VIP, holder())
    planned = await host.changes.apply_all([server(), vip, backend(RS1.key)], "", validate_only=True)
    assert [change.made for change in planned] == [True, True, True]
    assert table(host.ipvs) == {}
    assert all(each.address != VIP for each in host.addresses.addresses())
    assert host.state.list("vip") == {}


async def test_a_validated_batch_stops_at_what_would_fail(host: Host) -> None:
    batch = [server(), backend(DestinationKey(address=RS1.key.address, port=81)), backend(RS1.key)]
    with pytest.raises(BatchError) as caught:
        await host.changes.apply_all(batch, "", validate_only=True)
    assert isinstance(caught.value.error, InvalidInputError)
    assert [change.virtual_server.after.scheduler for change in caught.value.earlier] == ["wlc"]
    assert table(host.ipvs) == {}


async def test_what_is_planned_agrees_with_what_is_then_made(host: Host) -> None:
    batch = [server(), operations.create_vip(VIP, holder(), mode=VipMode.AGENT), backend(RS1.key, 3)]
    planned = await host.changes.apply_all(batch, "c1", validate_only=True)
    assert await host.changes.apply_all(batch, "c1") == planned


async def test_a_batch_is_one_change_and_is_reverted_as_one(host: Host) -> None:
    made = await host.changes.apply_all([server(), backend(RS1.key), server(OTHER)], "c1")
    assert {change.id for change in made} == {"c1"}
    ended = await host.changes.revert("c1")
    assert ended.outcome is Outcome.REVERTED
    assert ended.details == (
        f"removed virtual server {OTHER}",
        f"removed {RS1.key} from {WEB}",
        f"removed virtual server {WEB}",
    )
    assert table(host.ipvs) == {}


async def test_an_operation_that_fails_has_those_before_it_reverted_the_last_first(host: Host) -> None:
    """The destination must go before its virtual server: a virtual server with destinations would be left."""
    with pytest.raises(BatchError) as caught:
        await host.changes.apply_all([server(), backend(RS1.key), server(OTHER, "sh")], "c1")
    assert caught.value.error.reason is Reason.MODULE_MISSING
    assert [change.made for change in caught.value.earlier] == [True, True]
    assert table(host.ipvs) == {}
    assert host.state.list("virtual_server") == host.state.list("destination") == {}


async def test_after_a_failure_the_same_name_is_tried_anew(host: Host) -> None:
    """The caller may have mended what was wrong: load the module, and ask again."""
    with pytest.raises(RefusedError):
        await host.changes.apply(server(WEB, "sh"), "c1")
    assert host.record("c1") is None
    host.ipvs.schedulers = frozenset({"sh"})
    assert (await host.changes.apply(server(WEB, "sh"), "c1")).made


async def test_a_single_operation_fails_with_its_own_error(host: Host) -> None:
    with pytest.raises(NotFoundError, match=f"there is no virtual server {WEB}"):
        await host.changes.apply(backend(RS1.key), "c1")


async def test_a_failing_batch_leaves_what_was_in_place_before_it(host: Host) -> None:
    await host.changes.apply(server(), "c1")
    with pytest.raises(BatchError):
        await host.changes.apply_all([server(), backend(RS1.key), backend(RS2.key, of=OTHER)], "c2")
    assert table(host.ipvs) == {VirtualServer(key=WEB): set()}
    assert host.virtual_servers.is_managed(WEB)


async def test_what_is_not_as_it_was_written_is_a_conflict_and_is_taken_back(host: Host) -> None:
    await host.changes.apply(server(), "c1")
    host.brittle.loses_destinations = True
    with pytest.raises(ConflictError, match="somebody changes it too"):
        await host.changes.apply(backend(RS1.key), "c2")
    assert table(host.ipvs) == {VirtualServer(key=WEB): set()}
    assert host.state.list("destination") == {}


async def test_an_agent_that_died_in_a_change_reverts_it_when_it_is_asked_to(host: Host) -> None:
    host.brittle.dies_after_adding = True
    with pytest.raises(Died):
        await host.changes.apply(server(), "c1")
    assert host.record("c1") == "begun"
    restarted = host.restarted()
    assert (await restarted.changes.revert("c1")).outcome is Outcome.REVERTED
    assert table(host.ipvs) == {}
    assert host.state.list("virtual_server") == {}


async def test_an_agent_that_died_in_a_change_makes_it_anew_when_it_is_asked_again(host: Host) -> None:
    """What stood of it goes first, the earlier operations of the batch too, so that the answer is a whole one."""
    host.brittle.dies_after_adding = True
    batch = [server(), server(OTHER)]
    with pytest.raises(Died):
        await host.changes.apply_all(batch, "c1")
    host = host.restarted()
    made = await host.changes.apply_all(batch, "c1")
    assert [change.made for change in made] == [True, True]
    assert host.record("c1") == "done"
    assert (await host.changes.revert("c1")).outcome is Outcome.REVERTED
    assert table(host.ipvs) == {}


async def test_an_agent_that_died_before_it_wrote_to_the_kernel_has_nothing_to_revert(host: Host) -> None:
    """The record says "begun", the kernel knows nothing of it."""
    host.brittle.broken = True
    with pytest.raises(ZeroDivisionError):
        await host.changes.apply(server(), "c1")
    assert host.record("c1") == "begun"
    host = host.restarted()
    assert (await host.changes.revert("c1")).outcome is Outcome.NOTHING
    assert not host.virtual_servers.is_managed(WEB)


async def test_a_defect_in_the_midst_of_a_batch_can_be_reverted_by_name(host: Host) -> None:
    await host.changes.apply(server(), "c1")
    host.brittle.broken = True
    with pytest.raises(ZeroDivisionError):
        await host.changes.apply_all([backend(RS1.key), server(OTHER)], "c2")
    host.brittle.broken = False
    assert (await host.changes.revert("c2")).outcome is Outcome.REVERTED
    assert table(host.ipvs) == {VirtualServer(key=WEB): set()}


async def test_one_revert_that_fails_does_not_keep_the_others_from_being_tried(host: Host) -> None:
    await host.changes.apply_all([server(), server(OTHER)], "c1")
    host.brittle.held = {OTHER}
    with pytest.raises(RefusedError, match=f"cannot remove {OTHER}"):
        await host.changes.revert("c1")
    assert [each.key for each in host.ipvs.virtual_servers()] == [OTHER]


async def test_a_revert_that_failed_can_be_tried_again(host: Host) -> None:
    await host.changes.apply_all([server(), server(OTHER)], "c1")
    host.brittle.held = {WEB, OTHER}
    with pytest.raises(RefusedError, match=f"cannot remove {OTHER}; cannot remove {WEB}"):
        await host.changes.revert("c1")
    host.brittle.held = set()
    assert (await host.restarted().changes.revert("c1")).outcome is Outcome.REVERTED
    assert table(host.ipvs) == {}


async def test_a_failed_batch_that_cannot_be_taken_back_says_so_and_is_reverted_by_name_later(host: Host) -> None:
    """The caller must not take it for a batch that left nothing."""
    host.brittle.held = {WEB}
    with pytest.raises(BatchError) as caught:
        await host.changes.apply_all([server(), server(OTHER, "sh")], "c1")
    error = caught.value.error
    assert (error.reason, error.metadata[UNFINISHED]) == (Reason.MODULE_MISSING, "c1")
    assert "cannot load scheduler sh" in error.message
    assert f"not everything could be taken back: cannot remove {WEB}" in error.message
    host.brittle.held = set()
    assert (await host.restarted().changes.revert("c1")).outcome is Outcome.REVERTED
    assert table(host.ipvs) == {}


async def test_a_change_that_failed_half_made_and_cannot_be_taken_back_is_not_forgotten(host: Host) -> None:
    """The operation that failed itself, not only those before it."""
    host.brittle.loses_answers = True
    host.brittle.held = {WEB}
    with pytest.raises(InternalError, match="the answer is lost; and not everything could be taken back") as caught:
        await host.changes.apply(server(), "c1")
    assert caught.value.metadata[UNFINISHED] == "c1"
    host.brittle.held = set()
    assert (await host.restarted().changes.revert("c1")).outcome is Outcome.REVERTED
    assert table(host.ipvs) == {}


async def test_a_batch_that_was_taken_back_says_nothing_of_being_unfinished(host: Host) -> None:
    with pytest.raises(BatchError) as caught:
        await host.changes.apply_all([server(), server(OTHER, "sh")], "c1")
    assert UNFINISHED not in caught.value.error.metadata
    assert host.record("c1") is None


async def test_what_others_changed_meanwhile_is_kept_and_said(host: Host) -> None:
    await host.changes.apply_all([server(), server(OTHER)], "c1")
    host.ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    ended = await host.changes.revert("c1")
    assert ended.outcome is Outcome.KEPT
    assert f"virtual server {WEB} stays: somebody changed it meanwhile" in ended.details
    assert host.ipvs.virtual_servers() == [VirtualServer(key=WEB, scheduler="rr")]


async def test_on_a_full_disk_nothing_is_changed(host: Host) -> None:
    """The record comes first; without it the kernel is not touched."""
    host.state.full = True
    with pytest.raises((BatchError, ExhaustedError)):
        await host.changes.apply_all([server()], "c1")
    assert table(host.ipvs) == {}
    host.state.full = False
    assert (await host.changes.apply(server(), "c1")).made


async def test_only_so_many_changes_are_remembered_the_newest(host: Host) -> None:
    for number in range(KEPT_CHANGES + 2):
        await host.changes.apply(server(), f"c{number}")
    names = list(host.state.list("change"))
    assert (len(names), names[0], names[-1]) == (KEPT_CHANGES, "c2", f"c{KEPT_CHANGES + 1}")


async def test_operations_of_the_other_agent_and_none_at_all_are_refused(host: Host) -> None:
    silence = Operation()
    silence.silence_arp.operator = "me"
    with pytest.raises(RefusedError, match="a director does not silence arp") as caught:
        await host.changes.apply(silence, "")
    assert caught.value.reason is Reason.NOT_SUPPORTED
    with pytest.raises(RefusedError, match="a real server does not create virtual server"):
        await RealServerHost().changes.apply(server(), "")
    for changes in (host.changes, RealServerHost().changes):
        with pytest.raises(InvalidInputError, match="operation: must be set"):
            await changes.apply(Operation(), "")


class AskedNeighbours(NoNeighbours):
    """Neighbours who may refuse at one of the two questions, and note the order."""

    def __init__(self, host: DirectorHost, refuses: str) -> None:
        self._host = host
        self._refuses = refuses
        self.asked: list[tuple[str, bool]] = []

    async def ask(self, change: Change) -> None:
        self._note("ask", change)

    async def confirm(self, change: Change) -> None:
        self._note("confirm", change)

    async def announce(self, change: Change) -> None:
        self._note("announce", change)

    def _note(self, question: str, change: Change) -> None:
        if not change.vip.after.present or change.vip.before.present:
            return  # it adds no address
        there = any(each.address == VIP for each in self._host.addresses.addresses())
        self.asked.append((question, there))
        if question == self._refuses:
            raise RefusedError("another host has it", Reason.VIP_TAKEN)


@pytest.mark.parametrize("refuses", ["ask", "confirm"])
async def test_a_vip_that_another_host_has_is_not_there_in_the_end(refuses: str) -> None:
    """Asked before the address is added, and again (duplicate address detection) when it is there."""
    host = DirectorHost()
    neighbours = AskedNeighbours(host, refuses)
    changes = Changes(host.resources, host.state, run, neighbours)
    with pytest.raises(RefusedError, match="another host has it"):
        await changes.apply(operations.create_vip(VIP, holder()), "c1")
    assert neighbours.asked == [("ask", False), ("confirm", True)][: 1 if refuses == "ask" else 2]
    assert all(each.address != VIP for each in host.addresses.addresses())
    assert host.vips.list_all() == []


async def test_neighbours_are_not_asked_about_what_is_in_place_or_only_planned() -> None:
    host = DirectorHost()
    neighbours = AskedNeighbours(host, "")
    changes = Changes(host.resources, host.state, run, neighbours)
    vip = operations.create_vip(VIP, holder())
    await changes.apply(vip, "", validate_only=True)
    assert neighbours.asked == []
    await changes.apply(vip, "")
    await changes.apply(vip, "")
    assert neighbours.asked == [("ask", False), ("confirm", True), ("announce", True)]


async def test_a_removal_that_is_taken_back_asks_before_it_adds_the_vip_again_and_tells_afterwards() -> None:
    host = DirectorHost()
    neighbours = AskedNeighbours(host, "")
    changes = Changes(host.resources, host.state, run, neighbours)
    await changes.apply(operations.create_vip(VIP, holder()), "")
    await changes.apply(operations.delete_vip(VIP, holder()), "c1")
    neighbours.asked.clear()
    assert (await changes.revert("c1")).outcome is Outcome.REVERTED
    assert neighbours.asked == [("ask", False), ("confirm", True), ("announce", True)]
    assert host.vips.get(VIP).present


@pytest.mark.parametrize("refuses", ["ask", "confirm"])
async def test_a_vip_that_another_host_took_meanwhile_is_not_put_back(host: Host, refuses: str) -> None:
    await host.changes.apply(operations.create_vip(VIP, holder()), "")
    await host.changes.apply(operations.delete_vip(VIP, holder()), "c1")
    changes = Changes(host.resources, host.state, run, AskedNeighbours(host, refuses))
    with pytest.raises(RefusedError, match="another host has it"):
        await changes.revert("c1")
    assert not host.vips.get(VIP).present
    assert host.vips.list_all() == []


async def test_a_destination_that_is_there_and_differs_stops_the_batch_before_it(host: Host) -> None:
    await host.changes.apply_all([server(), backend(RS1.key, 5)], "c1")
    with pytest.raises(BatchError) as caught:
        await host.changes.apply_all([backend(RS2.key), backend(RS1.key, 6)], "c2")
    assert isinstance(caught.value.error, DiffersError)
    assert table(host.ipvs) == {VirtualServer(key=WEB): {destination(weight=5)}}
