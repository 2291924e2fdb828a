"""ARP sysctls: which values silence, which must change, and which interfaces would answer all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.errors import Reason, RefusedError
from agent_realserver.arp import (
    ALL,
    ARP_SETTINGS,
    ArpChange,
    ArpName,
    ArpSysctls,
    ArpValues,
    answering,
    effective,
    needed_changes,
    read_values,
    silence_of,
    silences,
    with_changes,
)
from agent_realserver.fake_arp import FakeArpSysctls
from agent_realserver.procfs_arp import ProcfsArpSysctls

IGNORE, ANNOUNCE = ArpName.IGNORE, ArpName.ANNOUNCE
ETH = "eth0.100"
VALUES = st.integers(0, 10)


def values(*, all_ignore: int = 0, all_announce: int = 0, ignore: int = 0, announce: int = 0) -> ArpValues:
    return {
        (ALL, IGNORE): all_ignore,
        (ALL, ANNOUNCE): all_announce,
        ("lo", IGNORE): 0,
        ("lo", ANNOUNCE): 0,
        (ETH, IGNORE): ignore,
        (ETH, ANNOUNCE): announce,
    }


def written(changes: list[ArpChange]) -> list[str]:
    return [f"{each.interface}/{each.name}={each.new}" for each in changes]


@pytest.mark.parametrize("arp_ignore", range(11))
@pytest.mark.parametrize("arp_announce", range(5))
def test_only_1_2_and_8_silence_answers_and_only_2_silences_questions(arp_ignore: int, arp_announce: int) -> None:
    assert silences(arp_ignore, arp_announce) is (arp_ignore in (1, 2, 8) and arp_announce == 2)


def test_the_larger_value_of_all_and_the_interface_counts() -> None:
    assert effective(values(all_ignore=1, ignore=3), ETH, IGNORE) == 3
    assert effective(values(all_ignore=8, ignore=3), ETH, IGNORE) == 8


def test_after_a_boot_all_four_are_set_in_the_order_of_the_table() -> None:
    assert written(needed_changes(values())) == [
        "all/arp_ignore=1",
        "all/arp_announce=2",
        "lo/arp_ignore=1",
        "lo/arp_announce=2",
    ]
    assert all(setting.why for setting in ARP_SETTINGS)


@pytest.mark.parametrize("kept", [1, 2, 8])
def test_a_value_that_silences_already_is_kept(kept: int) -> None:
    assert (ALL, IGNORE) not in [(c.interface, c.name) for c in needed_changes(values(all_ignore=kept))]


@pytest.mark.parametrize(("all_ignore", "all_announce"), [(3, 1), (7, 3)])
def test_a_larger_value_that_does_not_silence_is_replaced(all_ignore: int, all_announce: int) -> None:
    changes = needed_changes(values(all_ignore=all_ignore, all_announce=all_announce))
    assert written(changes)[:2] == ["all/arp_ignore=1", "all/arp_announce=2"]
    assert [change.old for change in changes[:2]] == [all_ignore, all_announce]


@given(VALUES, VALUES, VALUES, VALUES)
def test_after_the_changes_nothing_is_left_to_change_and_only_own_values_can_be_loud(
    all_ignore: int, all_announce: int, ignore: int, announce: int
) -> None:
    before = values(all_ignore=all_ignore, all_announce=all_announce, ignore=ignore, announce=announce)
    after = with_changes(before, needed_changes(before))
    assert needed_changes(after) == []
    for judged in answering(after, [ETH]):
        assert f"net/ipv4/conf/{ETH}/" in judged.problem
        assert f"{ALL}/" not in judged.problem


def test_an_interface_whose_own_value_undoes_the_silence_is_named_with_what_to_type() -> None:
    (judged,) = answering(values(all_ignore=1, all_announce=2, ignore=3), [ETH])
    assert (judged.arp_ignore, judged.arp_announce, judged.silent) == (3, 2, False)
    assert judged.problem == (
        "eth0.100 would answer ARP for the VIP: eth0.100/arp_ignore is 3, which does not silence; "
        "type: sysctl -w net/ipv4/conf/eth0.100/arp_ignore=1"
    )


def test_both_sysctls_of_an_interface_are_named_if_both_are_wrong() -> None:
    judged = silence_of(values(), ETH)
    assert "all/arp_ignore is 0" in judged.problem
    assert "all/arp_announce is 0" in judged.problem


Make = Callable[[Path], ArpSysctls]


def proc(folder: Path) -> ArpSysctls:
    for interface in (ALL, "default", "lo", ETH):
        (folder / interface).mkdir()
        for name in ArpName:
            (folder / interface / name).write_text("0\n")
    return ProcfsArpSysctls(folder)


def fake(_: Path) -> ArpSysctls:
    return FakeArpSysctls(("lo", ETH))


@pytest.mark.parametrize("make", [proc, fake])
class TestContract:
    """What every ArpSysctls does."""

    def test_interfaces_are_listed_without_all_and_default(self, make: Make, tmp_path: Path) -> None:
        assert make(tmp_path).interfaces() == [ETH, "lo"]

    def test_what_is_written_is_read(self, make: Make, tmp_path: Path) -> None:
        sysctls = make(tmp_path)
        sysctls.write(ALL, IGNORE, 1)
        sysctls.write(ETH, ANNOUNCE, 2)
        assert read_values(sysctls, [ETH]) == values(all_ignore=1, announce=2)

    def test_a_missing_interface_is_named(self, make: Make, tmp_path: Path) -> None:
        sysctls = make(tmp_path)
        with pytest.raises(RefusedError, match="cannot read eth7/arp_ignore") as caught:
            sysctls.read("eth7", IGNORE)
        assert caught.value.reason is Reason.NO_DEVICE
        with pytest.raises(RefusedError, match="cannot set eth7/arp_ignore to 1"):
            sysctls.write("eth7", IGNORE, 1)


@pytest.mark.parametrize("name", ["", ".", "..", "../../../kernel", "eth0/../lo"])
def test_what_cannot_be_an_interfaces_name_never_becomes_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not an interface's name"):
        proc(tmp_path).read(name, IGNORE)


def test_a_value_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    sysctls = proc(tmp_path)
    path = tmp_path / ALL / IGNORE
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(RefusedError, match="cannot set all/arp_ignore to 1: the kernel refused: No space left"):
        sysctls.write(ALL, IGNORE, 1)
