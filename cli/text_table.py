"""Columns of text. Pure; without protobuf, which commands that ask no agent need not load."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

NO_BREAK = "\N{NO-BREAK SPACE}"
"""A blank at which with_last_column does not fold."""

_LEAST = 24
"""Columns below which nothing is folded: what is left then is for the terminal to break."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return left-aligned columns; without rows only the head."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def fold(text: str, width: int, indent: str = "") -> list[str]:
    """Return a text as lines of at most so many columns, behind the indent; 0 or less: one line."""
    line = indent + text
    if len(line) <= width or width - len(indent) < _LEAST:
        return [line]
    further = f"{indent}    "
    return textwrap.wrap(line, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)


def fits(lines: Iterable[str], width: int) -> bool:
    """Whether lines have at most so many columns; 0 or less: any number."""
    return width <= 0 or all(len(line) <= width for line in lines)


def with_notes(table: Sequence[str], notes: Iterable[str], width: int, indent: str) -> list[str]:
    """Return the lines of a table, each row followed by what is to be said of it, if anything is."""
    head, *rows = table
    lines = [head]
    for row, note in zip(rows, notes, strict=True):
        lines += [row, *(fold(note, width, indent) if note else ())]
    return lines


def with_last_column(head: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[str], width: int) -> list[str]:
    """Return a table whose last column, of texts with lines of their own, is folded to what so many columns leave."""
    heading, *left = table(head, [[*row, ""] for row in rows]).splitlines()
    start = heading.index(head[-1])
    lines = [heading]
    for row, text in zip(left, texts, strict=True):
        folded = [line for each in text.splitlines() for line in _wrapped(each, width - start)] or [""]
        lines += [f"{row:{start}}{folded[0]}".rstrip(), *(" " * start + line for line in folded[1:])]
    return [line.replace(NO_BREAK, " ") for line in lines]


def _wrapped(text: str, width: int) -> list[str]:
    if width < _LEAST:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
