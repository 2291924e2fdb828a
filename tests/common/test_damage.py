"""A journal that is not as it was written: it reads as before, or is told to be corrupt; never as something else.

The exception is the end of the log, which SQLite takes for a write that a crash interrupted; docs/reference/files.md.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_common.errors import LvsError, Reason, RefusedError
from agent_common.sqlite_check import find_damage
from agent_common.sqlite_state import SqliteState
from tests.state_files import Content, content

SEED = random.SystemRandom().randrange(1 << 32)
FLIPS, CUTS = 90, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """A journal in a folder, and what it said after each write, the last one now."""

    folder: Path
    past: list[Content]

    @property
    def file(self) -> Path:
        return self.folder / "state.db"

    @property
    def log(self) -> Path:
        return self.folder / "state.db-wal"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Journal, Journal]:
    """One that was closed, and one whose agent was killed: its last writes are in the log."""
    choose = random.Random(7)  # noqa: S311  # always the same journal
    folder = tmp_path_factory.mktemp("journal")
    state = SqliteState(folder)
    past = []
    killed = tmp_path_factory.mktemp("killed")
    for number in range(60):
        with state.transaction():
            for _ in range(choose.randrange(1, 4)):
                name = f"tcp/192.168.0.{choose.randrange(30)}:80"
                body = {"text": "x" * choose.choice((3, 40, 400, 9000)), "number": number}
                state.put(choose.choice(("vip", "destination", "transaction")), name, body)
            if number % 7 == 0:
                state.keep_newest("vip", 4)
        if number == 40:
            state.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        past.append(content(state))
    for path in (folder / "state.db", folder / "state.db-wal"):
        shutil.copy(path, killed)
    state.close()
    return Journal(folder=folder, past=past), Journal(folder=killed, past=past)


@pytest.fixture
def closed(written: tuple[Journal, Journal], tmp_path: Path) -> Journal:
    return copy(written[0], tmp_path / "closed")


@pytest.fixture
def killed(written: tuple[Journal, Journal], tmp_path: Path) -> Journal:
    return copy(written[1], tmp_path / "killed")


@pytest.fixture
def choose() -> random.Random:
    print(f"seed: {SEED}")
    return random.Random(SEED)  # noqa: S311  # repeatable


def copy(journal: Journal, folder: Path) -> Journal:
    """Return a copy of files alone, as a disk would give them back."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("state.db*"):
        path.unlink()
    for path in (journal.file, journal.log):
        if path.exists():
            shutil.copy(path, folder)
    return Journal(folder=folder, past=journal.past)


def read(journal: Journal) -> Content | None:
    """What an agent reads that starts on it; None if it says that it is corrupt, and has left it as it is."""
    before = {path: path.read_bytes() for path in journal.folder.glob("state.db*")}
    state = SqliteState(journal.folder)
    try:
        if state.damage:
            assert {path: path.read_bytes() for path in journal.folder.glob("state.db*")} == before
            return None
        return content(state)
    finally:
        state.close()


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits(data: bytes, choose: random.Random) -> Iterator[int]:
    """Some bits of a file, those of its beginning among them, where headers are."""
    yield from choose.sample(range(100 * 8), FLIPS // 3)
    yield from choose.sample(range(len(data) * 8), FLIPS - FLIPS // 3)


def test_what_nobody_has_touched_reads_as_it_was_written(closed: Journal, killed: Journal) -> None:
    assert read(closed) == closed.past[-1]
    assert killed.log.stat().st_size > 20_000
    assert read(killed) == killed.past[-1]


def test_any_flipped_bit_is_found_or_does_not_matter(closed: Journal, choose: random.Random) -> None:
    data = closed.file.read_bytes()
    found = 0
    for bit in bits(data, choose):
        closed.file.write_bytes(flipped(data, bit))
        now = read(closed)
        assert now in (None, closed.past[-1]), f"bit {bit}"
        found += now is None
    assert found > FLIPS // 3


def test_a_bit_that_flips_under_the_log_is_found_or_does_not_matter(
    written: tuple[Journal, Journal], killed: Journal, choose: random.Random
) -> None:
    data = killed.file.read_bytes()
    for bit in list(bits(data, choose))[::3]:
        copy(written[1], killed.folder)
        killed.file.write_bytes(flipped(data, bit))
        assert read(killed) in (None, killed.past[-1]), f"bit {bit}"


def test_a_bit_that_flips_in_the_log_costs_the_last_write_at_most(
    written: tuple[Journal, Journal], killed: Journal, choose: random.Random
) -> None:
    """Which looks like one that a crash has interrupted; a break anywhere before it is found."""
    data = killed.log.read_bytes()
    found = 0
    for bit in bits(data, choose):
        copy(written[1], killed.folder)
        killed.log.write_bytes(flipped(data, bit))
        now = read(killed)
        assert now in (None, *killed.past[-2:]), f"bit {bit}"
        found += now is None
    assert found > FLIPS // 2


def test_a_file_that_is_cut_is_found(closed: Journal, choose: random.Random) -> None:
    data = closed.file.read_bytes()
    for length in (0, 1, 100, 4096, len(data) - 4096, len(data) - 1, *choose.sample(range(len(data)), CUTS)):
        closed.file.write_bytes(data[:length])
        assert read(closed) is None, f"cut at {length}"


def test_a_log_that_is_cut_gives_what_was_once_written(
    written: tuple[Journal, Journal], killed: Journal, choose: random.Random
) -> None:
    """An earlier state, whole; it cannot be told from one after a crash."""
    data = killed.log.read_bytes()
    for length in (0, 1, 32, *choose.sample(range(len(data)), CUTS)):
        copy(written[1], killed.folder)
        killed.log.write_bytes(data[:length])
        assert read(killed) in killed.past[40:], f"cut at {length}"


def test_a_page_of_zeros_is_found_or_does_not_matter(
    written: tuple[Journal, Journal], closed: Journal, killed: Journal
) -> None:
    data = closed.file.read_bytes()
    for start in range(0, len(data), 4096):
        closed.file.write_bytes(data[:start] + bytes(4096) + data[start + 4096 :])
        assert read(closed) in (None, closed.past[-1]), f"page at {start}"
    data = killed.log.read_bytes()
    for start in range(0, len(data), 8192):
        copy(written[1], killed.folder)
        killed.log.write_bytes((data[:start] + bytes(4096) + data[start + 4096 :])[: len(data)])
        assert read(killed) in (None, *killed.past[-3:]), f"log at {start}"


@pytest.mark.parametrize("text", [b"not a database, and long enough to be sure of it" * 100, b"", bytes(8192)])
def test_a_file_that_is_no_database_is_told_and_left_as_it_is(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "state.db").write_bytes(text)
    state = SqliteState(tmp_path)
    assert state.damage
    assert "state.db is corrupt" in state.problems()[0]
    state.close()
    assert (tmp_path / "state.db").read_bytes() == text


def test_a_log_whose_file_is_gone_is_told(killed: Journal) -> None:
    killed.file.unlink()
    assert read(killed) is None


def test_of_a_corrupt_journal_nothing_is_read_and_into_it_nothing_written(closed: Journal) -> None:
    closed.file.write_bytes(b"")
    state = SqliteState(closed.folder)
    assert (state.get("vip", "a"), state.list("vip")) == (None, {})
    writes: list[Callable[[], None]] = [
        lambda: state.put("vip", "a", {}),
        lambda: state.delete("vip", "a"),
        lambda: state.keep_newest("vip", 1),
        state.check_intact,
    ]
    for write in writes:
        with pytest.raises(
            RefusedError, match=r"cannot change anything: .*state\.db is corrupt .*move state\.db\*"
        ) as no:
            write()
        assert no.value.reason is Reason.JOURNAL_CORRUPT
        assert no.value.metadata == {"path": str(closed.file)}
    with pytest.raises(RefusedError, match="another agent has it open"):
        SqliteState(closed.folder)
    state.close()
    assert closed.file.read_bytes() == b""


@pytest.mark.parametrize("column", ["body", "checksum"])
def test_a_record_that_changes_while_the_agent_runs_is_found_when_it_is_read(tmp_path: Path, column: str) -> None:
    state = SqliteState(tmp_path)
    state.put("vip", "a", {"n": 1})
    state.put("vip", "b", {"n": 1})
    change = {"body": """replace(body, '1', '3')""", "checksum": "checksum + 1"}[column]
    state.connection.execute(f"UPDATE record SET {column} = {change} WHERE name = 'b'")  # noqa: S608  # see above
    assert state.get("vip", "a") == {"n": 1}
    with pytest.raises(RefusedError, match="checksum of vip b") as caught:
        state.list("vip")
    assert caught.value.reason is Reason.JOURNAL_CORRUPT
    assert state.list("vip") == {}
    with pytest.raises(RefusedError, match="is corrupt"), state.transaction():
        state.put("vip", "a", {})
    state.close()


def test_a_file_that_breaks_while_the_agent_runs_is_found_when_it_is_read(closed: Journal) -> None:
    """Its pages are read again once SQLite has forgotten them."""
    state = SqliteState(closed.folder)
    data = closed.file.read_bytes()
    closed.file.write_bytes(data[:4096] + bytes(len(data) - 4096))
    state.connection.execute("PRAGMA shrink_memory")
    with pytest.raises(LvsError) as caught:
        for kind in ("vip", "destination", "transaction"):
            state.list(kind)
    assert caught.value.reason is Reason.JOURNAL_CORRUPT
    assert state.damage
    state.close()


def test_a_healthy_journal_is_only_read_by_the_check(killed: Journal) -> None:
    before = {path.name: path.read_bytes() for path in killed.folder.iterdir()}
    assert find_damage(killed.file) == ""
    assert {path.name: path.read_bytes() for path in killed.folder.iterdir()} == before


def test_the_log_of_big_endian_words_is_read_too(tmp_path: Path) -> None:
    """SQLite writes little-endian sums on the machines that we have; the format has both."""
    from agent_common.sqlite_log import _sum

    data = bytes(range(64))
    assert _sum(data, "big", (0, 0)) != _sum(data, "little", (0, 0))
    swapped = b"".join(data[at : at + 4][::-1] for at in range(0, 64, 4))
    assert _sum(swapped, "big", (0, 0)) == _sum(data, "little", (0, 0))
    assert sqlite3.sqlite_version_info >= (3, 37)
