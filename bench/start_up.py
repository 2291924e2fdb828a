"""How long lvs takes to start, as ratios to what its libraries take alone, in one run.

Commands are run in turn, so that a machine whose speed drifts treats all alike; the medians are compared.
Bounds (DESIGN.md section 8): --help, --version and completion at most 2.5 x `import typer`, a command that calls an
agent at most 2.5 x `import grpc`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15
BIN = Path(sys.executable).parent
LVS = str(BIN / "lvs")
PYTHON = sys.executable

COMMANDS = {
    "import typer": [PYTHON, "-c", "import typer"],
    "lvs --help": [LVS, "--help"],
    "lvs --version": [LVS, "--version"],
    "completion": [LVS],
    "import grpc": [PYTHON, "-c", "import grpc"],
    "lvs status": [LVS, "--director", "unix:/nonexistent/api.sock", "status"],
}
BASES = {
    "lvs --help": "import typer",
    "lvs --version": "import typer",
    "completion": "import typer",
    "lvs status": "import grpc",
}
BOUND = 2.5


def main() -> None:
    """Run everything in turn and print medians and ratios."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(RUNS + 1):
        for name in COMMANDS:
            seconds = run(name)
            if number:  # the first round only fills the caches
                times[name].append(seconds)
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, base in BASES.items():
        ratio = medians[name] / medians[base]
        verdict = "" if ratio <= BOUND else f"   ABOVE {BOUND}"
        print(
            f"{name:14} {medians[name] * 1000:6.0f} ms   {ratio:4.2f} x {base} ({medians[base] * 1000:.0f} ms){verdict}"
        )


def run(name: str) -> float:
    """Run a command once; the seconds that it took."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if name == "completion":
        environment |= {"_LVS_COMPLETE": "complete_bash", "COMP_WORDS": "lvs add", "COMP_CWORD": "1"}
    begun = time.perf_counter()
    subprocess.run(COMMANDS[name], env=environment, check=False, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
