"""What must outlive an agent: the same contract for the fake and for SQLite, and what only a disk can promise."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_common.ballast import SIZE, Ballast
from agent_common.errors import ExhaustedError, Reason, RefusedError
from agent_common.fake_state import FakeState
from agent_common.sqlite_check import find_damage
from agent_common.sqlite_schema import VERSION, application_of, migrate
from agent_common.sqlite_state import SqliteState
from agent_common.state import State
from tests.state_files import Records, write_file

EVERYTHING = {"text": "ü \"' \0", "number": 2**53, "list": [1, "two", None], "map": {"a": True}}


@pytest.fixture(params=["fake", "sqlite"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    made: State = FakeState() if request.param == "fake" else SqliteState(tmp_path, Pages(tmp_path))
    yield made
    made.close()


class TestContract:
    """What every State does."""

    def test_a_record_is_read_as_it_was_written(self, state: State) -> None:
        state.put("vip", "192.168.0.200", EVERYTHING)
        assert state.get("vip", "192.168.0.200") == EVERYTHING

    def test_what_was_never_written_is_none(self, state: State) -> None:
        state.put("vip", "a", {})
        assert state.get("vip", "b") is None
        assert state.get("other", "a") is None
        assert state.list("other") == {}

    def test_an_empty_record_is_there(self, state: State) -> None:
        state.put("vip", "a", {})
        assert state.get("vip", "a") == {}

    def test_records_are_listed_oldest_first_and_only_those_of_the_kind(self, state: State) -> None:
        for name in ("c", "a", "b"):
            state.put("vip", name, {"n": name})
        state.put("other", "z", {})
        assert list(state.list("vip").items()) == [("c", {"n": "c"}), ("a", {"n": "a"}), ("b", {"n": "b"})]

    def test_bodies_are_those_that_are_listed(self, state: State) -> None:
        for number in range(3):
            state.put("vip", f"a{number}", {"n": number})
            state.put("other", f"a{number}", {"n": 9})
        assert list(state.bodies("vip")) == list(state.list("vip").values()) == [{"n": 0}, {"n": 1}, {"n": 2}]

    def test_a_record_that_is_written_again_replaces_the_old_one_and_is_the_newest(self, state: State) -> None:
        for name in ("a", "b", "a"):
            state.put("vip", name, {"n": len(state.list("vip"))})
        assert list(state.list("vip").items()) == [("b", {"n": 1}), ("a", {"n": 2})]

    def test_what_was_read_can_be_changed_without_changing_the_record(self, state: State) -> None:
        body = {"holders": ["a"]}
        state.put("vip", "v", body)
        body["holders"].append("b")
        read = state.get("vip", "v")
        assert read is not None
        read["holders"].append("c")
        assert state.get("vip", "v") == {"holders": ["a"]}

    def test_a_deleted_record_is_gone_and_deleting_it_again_is_no_error(self, state: State) -> None:
        state.put("vip", "a", {})
        state.put("vip", "b", {})
        state.delete("vip", "a")
        state.delete("vip", "a")
        assert list(state.list("vip")) == ["b"]

    def test_only_the_newest_of_a_kind_are_kept(self, state: State) -> None:
        for number in range(5):
            state.put("change", str(number), {})
            state.put("other", str(number), {})
        state.put("change", "1", {})
        state.keep_newest("change", 2)
        assert list(state.list("change")) == ["4", "1"]
        assert len(state.list("other")) == 5
        state.keep_newest("change", 7)
        assert list(state.list("change")) == ["4", "1"]

    def test_a_transaction_that_fails_leaves_everything_as_it_was(self, state: State) -> None:
        state.put("vip", "a", {"n": 1})
        state.put("vip", "b", {"n": 1})
        with pytest.raises(ZeroDivisionError), state.transaction():
            state.put("vip", "a", {"n": 2})
            state.put("vip", "c", {})
            state.delete("vip", "b")
            state.keep_newest("vip", 1)
            raise ZeroDivisionError
        assert state.list("vip") == {"a": {"n": 1}, "b": {"n": 1}}

    def test_a_transaction_reads_what_it_has_written(self, state: State) -> None:
        with state.transaction():
            state.put("vip", "a", {})
            assert state.get("vip", "a") == {}
        assert state.get("vip", "a") == {}

    def test_a_transaction_inside_another_is_part_of_that_one(self, state: State) -> None:
        with pytest.raises(ZeroDivisionError), state.transaction():
            with state.transaction():
                state.put("vip", "a", {})
            raise ZeroDivisionError
        assert state.list("vip") == {}
        with state.transaction(), state.transaction():
            state.put("vip", "b", {})
        assert state.list("vip") == {"b": {}}

    def test_after_a_failed_transaction_the_next_write_counts(self, state: State) -> None:
        with pytest.raises(ZeroDivisionError), state.transaction():
            raise ZeroDivisionError
        state.put("vip", "a", {})
        with state.transaction():
            state.put("vip", "b", {})
        assert list(state.list("vip")) == ["a", "b"]

    def test_a_full_disk_is_told_and_what_was_there_is_still_there(self, state: State) -> None:
        state.put("vip", "a", {"n": 1})
        fill(state)
        with pytest.raises(ExhaustedError, match="the disk is full") as caught:
            state.put("vip", "a", BIG)
        assert caught.value.reason is Reason.DISK_FULL
        assert state.list("vip") == {"a": {"n": 1}}

    def test_a_transaction_that_meets_a_full_disk_is_told_as_one_and_undone(self, state: State) -> None:
        state.put("vip", "a", {"n": 1})
        fill(state)
        with pytest.raises(ExhaustedError), state.transaction():
            state.put("vip", "a", BIG)
        assert state.list("vip") == {"a": {"n": 1}}
        make_room(state)
        state.put("vip", "a", BIG)
        assert state.get("vip", "a") == BIG

    def test_what_ends_something_is_written_on_a_full_disk_and_reads_as_it_was_meant(self, state: State) -> None:
        state.put("vip", "a", {"n": 1})
        state.put("vip", "b", {"n": 1})
        fill(state)
        with state.reserve(), state.transaction():
            state.delete("vip", "b")
            state.put("vip", "a", BIG)
            state.put("vip", "c", {"n": len(state.list("vip"))})
        assert state.list("vip") == {"a": BIG, "c": {"n": 1}}
        with pytest.raises(ExhaustedError):
            state.put("vip", "d", BIG)
        with state.reserve():
            state.put("vip", "d", {})
        assert list(state.list("vip")) == ["a", "c", "d"]

    def test_many_records_that_meet_a_full_disk_are_all_written_if_they_end_something(self, state: State) -> None:
        """Though they come one after the other, and only once."""
        fill(state)
        with pytest.raises(ExhaustedError):
            state.put_all("vip", ((name, BIG if name == "b" else {}) for name in "abc"))
        assert state.list("vip") == {}
        with state.reserve():
            state.put_all("vip", ((name, BIG if name == "b" else {}) for name in "abc"))
        assert state.list("vip") == {"a": {}, "b": BIG, "c": {}}

    def test_on_a_full_disk_nothing_new_is_begun_until_there_is_room_again(self, state: State) -> None:
        state.check_room()
        assert state.problems() == []
        fill(state)
        with state.reserve():
            state.put("vip", "a", BIG)
        with pytest.raises(ExhaustedError, match="cannot begin anything new") as caught:
            state.check_room()
        assert caught.value.reason is Reason.DISK_FULL
        state.look_for_room()
        assert "is full" in state.problems()[0]
        make_room(state)
        state.look_for_room()
        assert state.problems() == []
        state.check_room()

    def test_what_finds_no_room_in_the_reserve_either_is_told_and_undone(self, state: State) -> None:
        state.put("vip", "a", {"n": 1})
        fill(state)
        if isinstance(state, FakeState):
            state.spent = True
        with pytest.raises(ExhaustedError), state.reserve(), state.transaction():
            state.put("vip", "b", {})
            state.put("vip", "a", BIG)
            state.put("vip", "c", BIG)
        assert state.list("vip") == {"a": {"n": 1}}


FULL_PAGES, BALLAST_PAGES = 20, 300


class Pages(Ballast):
    """A small disk for SQLite: of so many pages, and the ballast's more when that is gone; BIG takes 250 of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "ballast")
        self.state: SqliteState | None = None
        self.full = False

    def has_room(self) -> bool:
        return super().has_room() and not self.full

    def make(self) -> None:
        if not self.full:
            super().make()

    def free(self) -> None:
        super().free()
        if self.state is not None:
            self.state.connection.execute(f"PRAGMA max_page_count = {FULL_PAGES + BALLAST_PAGES}")


BIG = {"text": "x" * 1_000_000}


def fill(state: State) -> None:
    """Leave no room for more."""
    if isinstance(state, FakeState):
        state.full = True
    if isinstance(state, SqliteState):
        assert isinstance(state._ballast, Pages)
        state._ballast.state, state._ballast.full = state, True
        state._connection.execute(f"PRAGMA max_page_count = {FULL_PAGES}")


def make_room(state: State) -> None:
    if isinstance(state, FakeState):
        state.full = False
    if isinstance(state, SqliteState):
        assert isinstance(state._ballast, Pages)
        state._ballast.full = False
        state._connection.execute("PRAGMA max_page_count = 100000")


def pragma(state: SqliteState, name: str) -> object:
    (value,) = state._connection.execute(f"PRAGMA {name}").fetchone()
    return value


def test_every_write_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    """WAL with synchronous=FULL syncs at every commit; the lock keeps a second agent out."""
    state = SqliteState(tmp_path)
    assert pragma(state, "journal_mode") == "wal"
    assert pragma(state, "synchronous") == 2
    assert pragma(state, "locking_mode") == "exclusive"
    state.put("vip", "a", {})
    assert not state._connection.in_transaction
    state.close()


def test_what_was_written_is_read_after_opening_again_in_the_same_order(tmp_path: Path) -> None:
    first = SqliteState(tmp_path)
    for name in ("b", "a"):
        first.put("vip", name, {"n": name})
    first.close()
    second = SqliteState(tmp_path)
    assert list(second.list("vip").items()) == [("b", {"n": "b"}), ("a", {"n": "a"})]
    second.put("vip", "c", {})
    assert list(second.list("vip")) == ["b", "a", "c"]
    second.close()


def test_what_an_agent_wrote_before_it_was_killed_is_there(tmp_path: Path) -> None:
    """Without any clean end: the write had been acknowledged, the open transaction had not."""
    script = (
        "import os, sys, pathlib\n"
        "from agent_common.sqlite_state import SqliteState\n"
        "state = SqliteState(pathlib.Path(sys.argv[1]))\n"
        "state.put('vip', 'a', {})\n"
        "with state.transaction():\n"
        "    state.put('vip', 'b', {})\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ended.returncode == -9
    state = SqliteState(tmp_path)
    assert list(state.list("vip")) == ["a"]
    state.close()


def test_a_commit_that_the_disk_refuses_is_an_error_and_ends_the_transaction(tmp_path: Path) -> None:
    """Else the next write would be part of it: answered for, and never on disk."""
    script = (
        "import os, pathlib, resource, sys\n"
        "from agent_common.errors import LvsError\n"
        "from agent_common.sqlite_state import SqliteState\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "state = SqliteState(folder)\n"
        "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "size = (folder / 'state.db-wal').stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))\n"
        "try:\n"
        "    with state.transaction():\n"
        "        state.put('vip', 'a', {})\n"
        "except LvsError as error:\n"
        "    print(type(error).__name__, flush=True)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
        "state.put('vip', 'b', {})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True, text=True)
    assert said.stdout == "InternalError\n"
    state = SqliteState(tmp_path)
    assert list(state.list("vip")) == ["b"]
    state.close()


def test_a_transaction_that_began_without_the_reserve_does_not_lose_what_it_has_written(tmp_path: Path) -> None:
    """It cannot be written again, so it fails as a whole."""
    state = SqliteState(tmp_path, Pages(tmp_path))
    fill(state)
    with pytest.raises(ExhaustedError), state.transaction():
        state.put("vip", "a", {})
        with state.reserve():
            state.put("vip", "b", BIG)
    assert state.list("vip") == {}
    state.close()


def test_a_second_agent_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    first = SqliteState(tmp_path)
    script = (
        "import sys, pathlib\n"
        "from agent_common.sqlite_state import SqliteState\n"
        "from agent_common.errors import LvsError\n"
        "try:\n"
        "    SqliteState(pathlib.Path(sys.argv[1]))\n"
        "except LvsError as error:\n"
        "    print(error.reason, error.message)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    assert said.startswith("IN_USE ")
    assert "another agent has it open; give each its own --state-dir" in said
    with pytest.raises(RefusedError, match="another agent has it open") as caught:
        SqliteState(tmp_path)
    assert caught.value.reason is Reason.IN_USE
    first.put("vip", "a", {})
    first.close()
    SqliteState(tmp_path).close()


def test_a_file_of_a_newer_version_is_refused_left_as_it_is_and_let_go(tmp_path: Path) -> None:
    SqliteState(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute(f"PRAGMA application_id = {application_of(99)}")
    connection.close()
    with pytest.raises(RefusedError, match=rf"a newer lvs-agents wrote it \(version 99, this one knows {VERSION}\)"):
        SqliteState(tmp_path)
    connection = sqlite3.connect(tmp_path / "state.db", timeout=0)
    assert connection.execute("PRAGMA user_version").fetchone() == (99,)
    connection.execute("BEGIN EXCLUSIVE")
    connection.close()


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_file_of_an_older_version_becomes_one_of_the_newest_with_the_same_content(
    tmp_path: Path, version: int
) -> None:
    old: Records = {("vip", "b"): EVERYTHING, ("vip", "a"): {}, ("other", "a"): BIG}
    write_file(tmp_path, version, old)
    for _ in range(2):
        state = SqliteState(tmp_path)
        assert state.damage == ""
        assert pragma(state, "user_version") == VERSION
        assert list(state.list("vip").items()) == [("b", EVERYTHING), ("a", {})]
        assert state.list("other") == {"a": BIG}
        state.close()
    state = SqliteState(tmp_path)
    state.put("vip", "b", {"n": 1})
    assert list(state.list("vip")) == ["a", "b"]
    state.close()


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_migration_that_is_interrupted_leaves_the_older_version(tmp_path: Path, version: int) -> None:
    """It is one write, however many statements it takes."""
    write_file(tmp_path, version, {("vip", str(number)): BIG for number in range(3)})
    connection = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    migrate(connection)
    connection.close()
    assert find_damage(tmp_path / "state.db") == ""
    state = SqliteState(tmp_path)
    assert state.list("vip") == {str(number): BIG for number in range(3)}
    state.close()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match=r"cannot use state directory .*file/below") as caught:
        SqliteState(tmp_path / "file" / "below")
    assert caught.value.metadata["path"] == str(tmp_path / "file" / "below")


def test_the_ballast_takes_its_room_on_the_disk_from_the_start(tmp_path: Path) -> None:
    """Blocks, not a hole; what a start finds in its place that is not whole is made again."""
    (tmp_path / "ballast").write_bytes(b"torn")
    state = SqliteState(tmp_path)
    found = (tmp_path / "ballast").stat()
    assert found.st_size == SIZE <= found.st_blocks * 512
    state.close()


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    SqliteState(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
