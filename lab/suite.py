"""Run the lab's tests in several guests at once, each with its share of the test files; beside them those that boot
kernels of their own: the power cuts, and the package on Debian hosts.

    python -m lab.suite [--guests 4] [--timeout 2400] [--seed N] [PYTEST ARGS...]

A guest has one processor and waits a third of its time (for a drain, for an ARP question): four fill a machine with
two. The power cuts (tests/power) and the package (tests/deploy) run on the machine itself. Ends with 0 if all tests
passed; the output of each guest is printed when it has ended, and in the end how many tests ran in all.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")

UPGRADE = "test_an_upgrade_leaves_it_served"

IN_GUEST = ("python", *PYTEST, "--basetemp", "/run/pytest", "tests/lab")
"""Temporary files go into the guest's memory: in /tmp another user of the machine may have a folder of that name."""


def main() -> int:
    """Run the guests and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=4)
    parser.add_argument("--timeout", type=int, default=2400, help="seconds for each guest")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which sample")
    known, more = parser.parse_known_args()
    more += ["--seed", str(known.seed)]  # the same for all: who runs what depends on what is chosen
    with ThreadPoolExecutor(known.guests + 2) as pool:
        beside = [
            pool.submit(
                run_here, "Debian hosts", debian_tests(known.seed, everything="all" in more), known.timeout, []
            ),
            pool.submit(run_here, "power cuts", ("tests/power",), known.timeout, more),
        ]
        shares = [f"{number}/{known.guests}" for number in range(1, known.guests + 1)]
        ended = [*pool.map(lambda share: run(share, known.timeout, more), shares)]
        ended += [each.result() for each in beside]
    passed = sum(count(done.stdout, "passed") for done in ended)
    bad = sum(count(done.stdout, word) for done in ended for word in ("failed", "error", "errors"))
    print(f"in the lab's kernels: {passed} passed, {bad} failed", flush=True)
    return max(done.returncode for done in ended)


def run(share: str, timeout: int, more: list[str]) -> subprocess.CompletedProcess[str]:
    """Run one guest to its end and print its output."""
    number = share.split("/", maxsplit=1)[0]
    boot = (sys.executable, "-m", "lab.boot", "--timeout", str(timeout), "--processor", number, "--")
    return told(f"guest {share}", (*boot, *IN_GUEST, "--share", share, *more))


def debian_tests(seed: int, *, everything: bool) -> tuple[str, ...]:
    """The tests on Debian hosts: all, or the control and one of the two ways in which hosts are installed."""
    folder = "tests/deploy"
    if everything:
        return (folder,)
    ways = ("test_install_guide.py", "test_package.py")
    way = random.Random(seed).choice(ways)  # noqa: S311  # a sample, no secret
    # Both have an upgrade; that of the guide takes as long as all of its installation.
    return f"{folder}/test_bare_hosts.py", f"{folder}/{way}", "--deselect", f"{folder}/test_install_guide.py::{UPGRADE}"


def run_here(title: str, tests: tuple[str, ...], timeout: int, more: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests that boot kernels of their own, and print their output."""
    bounded = ("timeout", "--kill-after", "30", str(timeout))
    return told(title, (*bounded, sys.executable, *PYTEST, *tests, *more))


def told(title: str, argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and print its output; where that can be read meanwhile is said first."""
    with tempfile.NamedTemporaryFile("w+", prefix="lvs-agents-", suffix=".log") as log:
        print(f"{title}: tail -f {log.name}", flush=True)
        status = subprocess.run(argv, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        log.seek(0)
        output = log.read()
    print(f"--- {title} ---\n{output}", end="", flush=True)
    return subprocess.CompletedProcess(argv, status, output)


def count(output: str, word: str) -> int:
    """How many tests pytest's last line counts under a word."""
    ends = [line for line in output.splitlines() if re.search(r" in [\d.]+s\b", line)]
    found = re.search(rf"(\d+) {word}\b", ends[-1]) if ends else None
    return int(found[1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
