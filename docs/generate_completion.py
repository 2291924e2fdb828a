"""Writes the shells' completions of lvsctl, as typer makes them.

Run it with `python -m docs.generate_completion FOLDER`; packaging/deb/build does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from typer._completion_shared import get_completion_script

SHELLS = ("bash", "zsh", "fish")

VARIABLE = "_LVS_COMPLETE"
"""By which a shell asks the program; it is made of the name that the program gives itself, lvs, under both names."""


def main() -> None:
    """Write a file for each shell into the folder that is named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for shell in SHELLS:
        script = get_completion_script(prog_name="lvsctl", complete_var=VARIABLE, shell=shell)
        (folder / f"lvsctl.{shell}").write_text(script + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
