"""The little of the man macros that our pages need (man(7) of groff)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

WIDTH = 100


def escape(text: str) -> str:
    """Return a text that roff prints as it is: a hyphen stays one that can be copied into a shell."""
    return text.replace("\\", "\\e").replace("-", "\\-")


def title(name: str, version: str, what: str) -> Iterator[str]:
    """Begin a page of section 8; no date, which would differ with every build."""
    yield f'.TH {escape(name).upper()} 8 "" "lvs\\-agents {version}"'
    yield ".nh"
    yield from section("name", [f"{escape(name)} \\- {escape(what)}"])


def section(name: str, lines: Iterable[str]) -> Iterator[str]:
    """Make a section of lines that are roff already."""
    yield f".SH {name.upper()}"
    yield from lines


def subsection(name: str) -> str:
    """Return the heading of a part of a section."""
    return f'.SS "{escape(name)}"'


def paragraph(text: str) -> Iterator[str]:
    """Make a paragraph of plain text."""
    yield ".PP"
    yield from _lines(text)


def tagged(tag: str, text: str) -> Iterator[str]:
    """Make an indented paragraph with a bold tag before it."""
    yield ".TP"
    yield f"\\fB{escape(tag)}\\fR"
    yield from _lines(text)


def verbatim(text: str) -> Iterator[str]:
    """Make lines that are shown as they are."""
    yield from (".PP", ".RS 4", ".nf", *(_guard(escape(line)) for line in text.splitlines()), ".fi", ".RE")


def _lines(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text.replace("`", ""), WIDTH, break_on_hyphens=False, break_long_words=False):
        yield _guard(escape(line))


def _guard(line: str) -> str:
    """A line that begins with a dot or a quote would be taken for a macro."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
