"""Reads SQLite's write-ahead log as it lies on the disk (https://www.sqlite.org/fileformat2.html#walformat).

SQLite takes everything from the first broken frame on for the rest of a write that a crash has interrupted, and reads
what was before it. After a crash that is right; where a bit has flipped it would be a state that is long gone.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
"""The lowest bit says whether checksums are of big-endian words."""

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The pages that a log holds, by their numbers from 1, how many the database has with them, and what is wrong."""

    page_size: int = 0
    pages: Mapping[int, bytes]
    page_count: int = 0
    damage: str = ""


def read_log(data: bytes) -> Log:
    """Return what SQLite will take of a log, and whether committed writes behind it are lost."""
    if len(data) <= _HEADER.size or not any(data):
        return Log(pages={})
    magic, _, page_size, _, *salts, first, second = _HEADER.unpack_from(data)
    order = "big" if magic & 1 else "little"
    if magic & ~1 != _MAGIC or _sum(data[:24], order, (0, 0)) != (first, second):
        return Log(pages={}, damage="the log's header is broken")
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    sums, count, taken = (first, second), 0, 0
    for index, (header, page) in enumerate(_frames(data, page_size)):
        number, total, *own = header[:4]
        sums = _sum(page, order, _sum(_FRAME.pack(*header)[:8], order, sums))
        if own != salts or sums != header[4:]:
            break
        pending[number] = page
        if total:
            pages.update(pending)
            pending.clear()
            count, taken = total, index + 1
    lost = _has_lost(list(_frames(data, page_size))[taken:], salts)
    return Log(page_size=page_size, pages=pages, page_count=count, damage="the log is broken" if lost else "")


def _frames(data: bytes, page_size: int) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Return header and page of every whole frame."""
    whole = _FRAME.size + page_size
    for offset in range(_HEADER.size, len(data) - whole + 1, whole):
        start = offset + _FRAME.size
        yield _FRAME.unpack_from(data, offset), data[start : start + page_size]


def _has_lost(frames: list[tuple[tuple[int, ...], bytes]], salts: list[int]) -> bool:
    """Whether there is more behind the last good write than one that a crash may have interrupted.

    The next is begun only when one is on disk. Frames with other salts are left from before the log last started over.
    """
    mine = [header for header, _ in frames if list(header[2:4]) == salts]
    ends = [index for index, header in enumerate(mine) if header[1]]
    return bool(ends) and ends[0] < len(mine) - 1


def _sum(data: bytes, order: str, start: Sums) -> Sums:
    """Return SQLite's checksum of an even number of 32-bit words, going on from another one."""
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = start
    pairs = iter(words)
    for one, two in zip(pairs, pairs, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second
