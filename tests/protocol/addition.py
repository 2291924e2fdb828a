"""The change protocol of an add-backend (docs/explanation): one coordinator, two directors, real servers, any client.

Every host may stop between journal and kernel, every message may come late, twice or never, leases end at any time,
and a client that meets an expired transaction may ask the authority at any time, while the coordinator still lives (it
may only have been stopped). With `reboots`, hosts lose their kernel state and follow the rules of a start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

AUTHORITY, OTHER = "A", "B"
DIRECTORS = (AUTHORITY, OTHER)

NONE, PREPARED, READY, COMMITTED, ABORTED = "none", "prepared", "ready", "committed", "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of DESIGN.md section 3, each of which can be left out."""

    ready_before_commit: bool = True
    asks_after_lost_commit: bool = True
    ready_does_not_expire: bool = True
    other_director_asks: bool = True
    tombstones: bool = True
    reserves_only: bool = True
    """A destination is written into the kernel at the commit, not at the preparation."""


@dataclass(frozen=True, slots=True)
class Host:
    """What an agent has in its journal, and what is in the kernel: a VIP (real server), a destination (director)."""

    status: str = NONE
    kernel: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """The coordinator's step, every message ever sent, the hosts, and how many reboots there may still be."""

    coordinator: str
    hosts: tuple[tuple[str, Host], ...]
    sent: frozenset[str] = field(default_factory=frozenset)
    reboots: int = 0
    rebooted: bool = False

    def host(self, name: str) -> Host:
        return dict(self.hosts)[name]

    def put(self, name: str, host: Host) -> State:
        return replace(self, hosts=tuple((each, host if each == name else there) for each, there in self.hosts))

    def send(self, *messages: str) -> State:
        return replace(self, sent=self.sent | set(messages))


class Addition:
    """The protocol of one add-backend of some real servers."""

    def __init__(self, rules: Rules, real_servers: int = 1, reboots: int = 0) -> None:
        self.rules = rules
        self.real_servers = tuple(f"R{number}" for number in range(1, real_servers + 1))
        self.names = (*self.real_servers, *DIRECTORS)
        order = [*(f"prepare {name}" for name in self.names)]
        order += [f"ready {name}" for name in self.real_servers] if rules.ready_before_commit else []
        order += [f"commit {name}" for name in (*DIRECTORS, *self.real_servers)]
        self.order = tuple(order)
        self.initial = State(order[0], tuple((name, Host()) for name in self.names), reboots=reboots)

    # What must hold.

    def no_client_is_sent_to_a_real_server_without_vip(self, state: State) -> bool:
        """P1; what a reboot wipes is another matter: the director's health checks see that."""
        serves = any(state.host(name).kernel and state.host(name).status == COMMITTED for name in DIRECTORS)
        ready = all(state.host(name).kernel for name in self.real_servers)
        return state.rebooted or not serves or ready

    def nothing_undecided_is_in_a_directors_kernel(self, state: State) -> bool:
        return all(state.host(name).status == COMMITTED for name in DIRECTORS if state.host(name).kernel)

    def all_decide_alike(self, state: State) -> bool:
        """P2: once the authority has decided, nobody decides otherwise, nor anybody commits what it has aborted."""
        statuses = {state.host(name).status for name in self.names}
        return not {COMMITTED, ABORTED} <= statuses

    def success_means_done_everywhere(self, state: State) -> bool:
        """P7; what a reboot wiped after that comes back from the journal."""
        done = all(host.status == COMMITTED and (host.kernel or state.rebooted) for _, host in state.hosts)
        return state.coordinator != "done" or done

    def in_the_end_all_or_nothing(self, state: State) -> bool:
        """P2 and P3: everything is there, or nothing; and nobody holds a lock of what is not decided."""
        hosts = [host for _, host in state.hosts]
        done = all(host == Host(COMMITTED, True) for host in hosts)
        return done or all(host.status in (NONE, ABORTED) and not host.kernel for host in hosts)

    # What can happen.

    def step(self, state: State) -> Iterator[tuple[str, State]]:
        yield from self._coordinate(state)
        for name in self.names:
            yield from self._serve(state, name)
        yield from self._resolve(state)

    def _coordinate(self, state: State) -> Iterator[tuple[str, State]]:
        now = state.coordinator
        if now in self.order:
            if now not in state.sent:
                yield f"send {now}", state.send(now)
            elif f"ok {now}" in state.sent:
                following = self.order.index(now) + 1
                name = self.order[following] if following < len(self.order) else "done"
                yield f"{now} answered", replace(state, coordinator=name)
            if now in state.sent:
                yield from self._give_up(state)
        elif now in ("asking", "aborting"):
            if f"{AUTHORITY} is committed" in state.sent:
                # Decided is not done: the authority may have died before its kernel. So it is told to commit once more.
                yield "told: committed", replace(state, coordinator=f"commit {AUTHORITY}")
            if f"{AUTHORITY} is aborted" in state.sent:
                yield "told: aborted", replace(state, coordinator="gone").send(*self._aborts())
        if now not in ("done", "gone"):
            yield "the coordinator dies", replace(state, coordinator="gone")

    def _give_up(self, state: State) -> Iterator[tuple[str, State]]:
        """No answer in time."""
        now = state.coordinator
        if not now.startswith("commit"):
            yield f"{now} timed out", replace(state, coordinator="aborting").send(f"abort {AUTHORITY}")
        elif now != f"commit {AUTHORITY}":
            yield f"{now} timed out", replace(state, coordinator="gone")
        elif self.rules.asks_after_lost_commit:
            yield f"{now} timed out", replace(state, coordinator="asking").send(f"ask {AUTHORITY}")
        else:
            yield f"{now} timed out", replace(state, coordinator="gone").send(f"abort {AUTHORITY}", *self._aborts())

    def _aborts(self) -> list[str]:
        return [f"abort {name}" for name in self.names if name != AUTHORITY]

    def _serve(self, state: State, name: str) -> Iterator[tuple[str, State]]:
        host, sent = state.host(name), state.sent
        real_server = name in self.real_servers

        def moves(status: str) -> State:
            return state.put(name, replace(host, status=status))

        if f"prepare {name}" in sent and host.status == NONE:
            yield f"{name} journals prepared", moves(PREPARED)
        if f"ready {name}" in sent and host.status == PREPARED:
            yield f"{name} journals ready", moves(READY)
        commits_from = (READY,) if real_server and self.rules.ready_before_commit else (PREPARED,)
        if f"commit {name}" in sent and host.status in commits_from:
            yield f"{name} journals committed", moves(COMMITTED)
        can_abort = (NONE, PREPARED, READY) if self.rules.tombstones else (PREPARED, READY)
        if f"abort {name}" in sent and host.status in can_abort:
            yield f"{name} journals aborted", moves(ABORTED)
        for status, message in ((PREPARED, "prepare"), (READY, "ready"), (COMMITTED, "commit")):
            applied = host.status == status and host.kernel == self._wanted(name, status)
            if applied and f"{message} {name}" in sent and f"ok {message} {name}" not in sent:
                yield f"{name} answers {message}", state.send(f"ok {message} {name}")
        yield from self._expire(state, name)
        if name == AUTHORITY:
            yield from self._tell(state)
        if host.kernel != self._wanted(name, host.status):
            yield f"{name} writes its kernel", state.put(name, replace(host, kernel=not host.kernel))
        if state.reboots:
            undecided = host.status == PREPARED and name in (AUTHORITY, *self.real_servers)
            after = Host(ABORTED if undecided else host.status, False)
            yield f"{name} reboots", replace(state.put(name, after), reboots=state.reboots - 1, rebooted=True)

    def _wanted(self, name: str, status: str) -> bool:
        """Whether the journal wants VIP or destination in the kernel."""
        if name in self.real_servers or not self.rules.reserves_only:
            return status in (PREPARED, READY, COMMITTED)
        return status == COMMITTED

    def _expire(self, state: State, name: str) -> Iterator[tuple[str, State]]:
        """The lease of an undecided transaction ends: who may abort alone does."""
        status = state.host(name).status
        alone = status == PREPARED and (name != OTHER or not self.rules.other_director_asks)
        if alone or (status == READY and not self.rules.ready_does_not_expire):
            yield f"the lease of {name} ends", state.put(name, replace(state.host(name), status=ABORTED))

    def _tell(self, state: State) -> Iterator[tuple[str, State]]:
        """The authority answers what was decided; of a transaction that it does not know it decides: aborted."""
        status, sent = state.host(AUTHORITY).status, state.sent
        asked = f"ask {AUTHORITY}" in sent
        if asked and status == NONE and self.rules.tombstones:
            yield "the authority writes a tombstone", state.put(AUTHORITY, Host(ABORTED))
        decided = {COMMITTED: "committed", ABORTED: "aborted"}.get(status)
        if asked and status == NONE and not self.rules.tombstones:
            decided = "aborted"
        told = asked or f"abort {AUTHORITY}" in sent
        if told and decided is not None and f"{AUTHORITY} is {decided}" not in sent:
            yield f"the authority says {decided}", state.send(f"{AUTHORITY} is {decided}")

    def _resolve(self, state: State) -> Iterator[tuple[str, State]]:
        """Any client that meets an expired transaction asks the authority, and carries what it says to the others."""
        if not any(state.host(name).status in (PREPARED, READY) for name in self.names if name != AUTHORITY):
            return
        if f"ask {AUTHORITY}" not in state.sent:
            yield "a client asks the authority", state.send(f"ask {AUTHORITY}")
        commits = [f"commit {name}" for name in self.names if name != AUTHORITY]
        for said, messages in (("committed", commits), ("aborted", self._aborts())):
            if f"{AUTHORITY} is {said}" in state.sent and not state.sent.issuperset(messages):
                yield f"a client carries {said}", state.send(*messages)
