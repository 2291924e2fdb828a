"""README and docs: every command that they show works, and prints what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import console
from tests.lab.conftest import UsualSite

DOCUMENTS = console.documents()

ONE_SIXTH = True
"""Of the pages so many run each time; make faults runs all."""


@pytest.mark.parametrize("page", DOCUMENTS, ids=[str(page.relative_to(console.CHECKOUT)) for page in DOCUMENTS])
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path, usual_site: UsualSite) -> None:
    """Each command of a marked block, run in order on its host of a fresh site, ends with status 0 and prints that."""
    blocks = console.parse(page.read_text(encoding="utf-8"))
    usual_site.end()
    with console.site_for(blocks) as site:
        found = [text for block in blocks for text in console.failures(block, console.run(site, block, tmp_path))]
    assert not found, "\n\n".join(
        [f"{page}; what changed on purpose is written anew by tests.lab.refresh_docs", *found]
    )


def test_the_pages_that_promise_to_be_real_are_run() -> None:
    """README and tutorial have marked blocks; a mark that was mistyped would leave them unread."""
    names = {str(page.relative_to(console.CHECKOUT)) for page in DOCUMENTS}
    assert {"README.md", "docs/tutorial.md"} <= names
