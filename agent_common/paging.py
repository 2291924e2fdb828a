"""Pages of a list: a token is the name of the last item of the page before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from agent_common.errors import InvalidInputError

_T = TypeVar("_T")

MAX_PAGE = 1000
"""At most so many items in one answer; 0 asks for as many."""


MAX_TABLE_PAGE = 5000
"""At most so many virtual servers and destinations in one answer: 1 MiB of the 4 that gRPC clients take."""


def check_page_size(size: int, largest: int = MAX_PAGE) -> None:
    """Raise InvalidInputError if a page shall have more than so many items."""
    if size > largest:
        raise InvalidInputError("page_size", f"page_size: {size} is out of range (0 to {largest})")


def page(items: Sequence[_T], size: int, token: str, name: Callable[[_T], str]) -> tuple[Sequence[_T], str]:
    """Return the items after the one that the token names, and the token of the next page ("" on the last).

    Raises InvalidInputError if the size is out of range, or the item of the token is gone: the caller begins again.
    """
    check_page_size(size)
    start = 0
    if token:
        start = next((number for number, item in enumerate(items, 1) if name(item) == token), 0)
        if not start:
            raise InvalidInputError("page_token", "page_token: the list has changed since; begin again without a token")
    part = items[start : start + (size or MAX_PAGE)]
    more = start + len(part) < len(items)
    return part, name(part[-1]) if more else ""
