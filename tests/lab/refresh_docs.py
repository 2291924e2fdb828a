"""Writes anew what the documentation's console blocks show, where it is not what the commands print by now.

    .venv/bin/python -m lab.boot --out DIR -- python -m tests.lab.refresh_docs [PAGE]...
    cp -r DIR/refreshed/. .

Runs in the guest. Outputs that match, with their "...", stay as they are. Read the diff of the others, and put "..."
for what differs from run to run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab import console
from tests.lab.console import Block, Printed

OUT = Path("/run/out/refreshed")
WIDTH = 120


def main(names: Sequence[str]) -> None:
    """Run the pages that are named, or all, and write those that have changed."""
    for page in [console.CHECKOUT / name for name in names] or console.documents():
        text = page.read_text(encoding="utf-8")
        blocks = console.parse(text)
        with console.site_for(blocks) as site, tempfile.TemporaryDirectory() as folder:
            printed = [console.run(site, block, Path(folder)) for block in blocks]
        new = refreshed(text, blocks, printed)
        name = page.relative_to(console.CHECKOUT)
        print(f"{name}: {'unchanged' if new == text else 'changed'}", flush=True)
        if new != text:
            (OUT / name).parent.mkdir(parents=True, exist_ok=True)
            (OUT / name).write_text(new, encoding="utf-8")


def refreshed(text: str, blocks: Sequence[Block], printed: Sequence[Sequence[Printed]]) -> str:
    """Return the page with what was printed in place of what was shown, where they differ."""
    lines = text.splitlines()
    for block, outputs in reversed(list(zip(blocks, printed, strict=True))):
        for command, found in reversed(list(zip(block.commands, outputs, strict=False))):
            first = command.line + command.text.count("\n")
            if not console.matches(command.shown, found.text):
                lines[first : first + len(command.shown)] = [shortened(line) for line in found.text.splitlines()]
    return "".join(f"{line}\n" for line in lines)


def shortened(line: str) -> str:
    """Return a line that fits the page, "..." standing for its middle."""
    line = line.rstrip()
    if len(line) <= WIDTH:
        return line
    begin, end = line[:67].rpartition(" ")[0], line[-48:].partition(" ")[2]
    return f"{begin} ... {end}"


if __name__ == "__main__":
    main(sys.argv[1:])
