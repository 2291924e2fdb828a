"""The disk of an agent's state directory is full: a small tmpfs, filled up at one moment or another.

`make faults` runs all cases, `make test` two of them; the seed is printed and can be given (--seed).
"""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.outcome import Outcome
from lab.agents import Agent
from lab.site import STATE
from tests.lab.operator import Operator

ONE_SIXTH = True

STEPS = ("prepare VIP", "add virtual server", "add 192")
"""How the steps begin that add-backend tells of: the real server's preparation, the director's, the commit."""


class Disk:
    """A small disk under the state directory of an agent's host."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._folder = STATE / agent.host.name
        self._filler = self._folder / "filler"

    def mount(self) -> None:
        self.agent.stop()
        self.agent.host.run("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(self._folder))
        self.agent.start()

    def unmount(self) -> None:
        self.agent.stop()
        self.agent.host.run("umount", str(self._folder))
        self.agent.start()

    def fill(self) -> None:
        """Write until there is no room for another page."""

        def write() -> None:
            with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))

        self.agent.host.inside(write)
        self.assert_full()

    def assert_full(self) -> None:
        def write() -> None:
            with pytest.raises(OSError, match="No space left") as caught, (self._folder / "probe").open("wb") as file:
                file.write(bytes(1 << 18))
            assert caught.value.errno == errno.ENOSPC
            (self._folder / "probe").unlink()

        self.agent.host.inside(write)

    def make_room(self) -> None:
        self.agent.host.inside(lambda: self._filler.unlink(missing_ok=True))

    def arm(self, failpoint: str) -> None:
        """Have the agent die there."""
        self.agent.host.inside(lambda: (self._folder / "failpoint").write_text(failpoint))

    def ballast(self) -> bool:
        return self.agent.host.inside(lambda: Path(self._folder / "ballast").exists())


DiskOf = Callable[[str], Disk]


@pytest.fixture(scope="module")
def disks(operator: Operator) -> Iterator[dict[str, Disk]]:
    """Small disks on the director and the first real server."""
    found = {name: Disk(operator.agents[name]) for name in ("lb1", "rs1")}
    for disk in found.values():
        disk.mount()
    yield found
    for disk in found.values():
        disk.unmount()


@pytest.fixture
def disk_of(disks: dict[str, Disk], pristine: Operator) -> Iterator[DiskOf]:
    """A host's small disk; with room again for the next test, and every host as it was before."""
    yield lambda name: disks[name]
    for disk in disks.values():
        disk.make_room()


def add(operator: Operator, step: str = "", then: Callable[[], None] = lambda: None) -> Outcome:
    """Add a backend; after the step that so begins, something happens."""

    def on_step(report: object) -> None:
        if step and getattr(report, "title", "").startswith(step):
            then()

    return operator.add(operator.vip(4), operator.rs(4)[:1], on_step=on_step)


def remove(operator: Operator) -> None:
    assert operator.remove(operator.vip(4), operator.rs(4)[:1], prune=True, drain_timeout=None).status == 0


def table(operator: Operator) -> str:
    return operator.site.director.out("ipvsadm", "-Sn")


def full_at_the_preparation(pristine: Operator, disk_of: DiskOf, name: str) -> None:
    """Refused, and undone on the other host: 10; with room again it goes on by itself."""
    disk = disk_of(name)
    disk.fill()
    outcome = add(pristine)
    assert outcome.status == 10, outcome.message
    assert "the disk of /run/state/" in outcome.message
    assert table(pristine) == ""
    assert f"DEGRADED: the disk of /run/state/{name} is full" in "".join(
        pristine.lvs(*(("status",) if name == "lb1" else ("rs", "show", pristine.rs(4)[0]))).stdout
    )
    disk.make_room()
    assert add(pristine).status == 0
    remove(pristine)


def full_at_the_authoritys_commit(pristine: Operator, disk_of: DiskOf) -> None:
    """Nothing is decided; the director, still without room, undoes its virtual server and VIP all the same: 10."""
    disk = disk_of("lb1")
    outcome = add(pristine, STEPS[1], disk.fill)
    assert outcome.status == 10, outcome.message
    assert outcome.message.endswith("everything is as it was before")
    assert table(pristine) == ""
    assert not disk.ballast()
    assert add(pristine).status == 10  # nothing new while the ballast is gone
    disk.make_room()
    assert add(pristine).status == 0
    assert disk.ballast()
    remove(pristine)


def full_at_the_real_servers_commit(pristine: Operator, disk_of: DiskOf) -> None:
    """It is decided, and done with the room that is kept: 0."""
    disk = disk_of("rs1")
    outcome = add(pristine, STEPS[2], disk.fill)
    assert outcome.status == 0, outcome.message
    assert not disk.ballast()
    assert pristine.lvs_json("txn", "list")["transactions"] == []
    assert pristine.curl(pristine.vip(4)) == "rs1"
    disk.make_room()
    remove(pristine)


def full_at_the_real_servers_abort(pristine: Operator, disk_of: DiskOf) -> None:
    """Its disk fills up once it has prepared: it is not READY, and undoes what it made: 10."""
    disk = disk_of("rs1")
    outcome = add(pristine, STEPS[0], disk.fill)
    assert outcome.status == 10, outcome.message
    assert outcome.message.endswith("everything is as it was before")


def full_at_a_start_that_has_something_to_undo(pristine: Operator, disk_of: DiskOf) -> None:
    """It was killed in the middle of its preparation, and the disk is full by now: it starts, and nothing is left."""
    disk = disk_of("lb1")
    outcome = add(pristine, STEPS[0], lambda: disk.arm("director.prepare.after_kernel"))
    assert outcome.status in (10, 11), outcome.message
    assert table(pristine) != ""
    disk.fill()
    disk.agent.start()
    assert table(pristine) == ""
    assert not disk.ballast()
    pristine.lvs("txn", "resolve", "--wait")


CASES: dict[str, Callable[[Operator, DiskOf], None]] = {
    "director-prepares": lambda operator, disk_of: full_at_the_preparation(operator, disk_of, "lb1"),
    "real-server-prepares": lambda operator, disk_of: full_at_the_preparation(operator, disk_of, "rs1"),
    "authority-commits": full_at_the_authoritys_commit,
    "real-server-commits": full_at_the_real_servers_commit,
    "real-server-aborts": full_at_the_real_servers_abort,
    "director-starts": full_at_a_start_that_has_something_to_undo,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases, or two."""
    names = list(CASES)
    if metafunc.config.getoption("--faults") != "all":
        names = random.Random(metafunc.config.getoption("--seed")).sample(names, 2)  # noqa: S311  # repeatable
    metafunc.parametrize("case", names)


def test_a_full_disk(pristine: Operator, disk_of: DiskOf, case: str) -> None:
    """Each of the cases says what it guarantees."""
    CASES[case](pristine, disk_of)
