"""lvs in a process of its own, against agents that are served here."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.cli.served_site import Site


async def lvs(site: Site, *words: str) -> tuple[int, str, str]:
    """Run the command in a process of its own against the directors that are served here."""
    agents: list[str] = []
    for name, host in site.hosts.items():
        path = f"unix:{site.served.path(name)}"
        agents += ["--director", path] if host in site.directors else ["--rs-agent", f"{name}={path}"]
    ended = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from cli.__main__ import program; program()",
        *agents,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XDG_CONFIG_HOME": "/nonexistent", "NO_COLOR": "1"},
    )
    said, told = await ended.communicate()
    return ended.returncode or 0, said.decode(), told.decode()


async def said(site: Site, *words: str) -> str:
    """Return what a command prints that ends well."""
    status, out, err = await lvs(site, *words)
    assert status == 0, err
    return out
