"""Transactions of one director against a plain model: any order of calls, leases, hand edits, restarts and reboots."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent_common.errors import ConflictError, DiffersError, LvsError, Reason
from agent_common.operation import Operation
from agent_common.proposal import Proposal
from agent_common.transaction import Participant, TransactionState
from cli import operations
from tests.director.ipvs_samples import destination
from tests.hosts import WEB, BootClock, DirectorHost

LEASE = 60.0
NAMES = ("a", "b", "c")
RS = ("192.168.0.104", "192.168.0.105")
AUTHORITIES = ("id", "other")

PREPARED, COMMITTED, ABORTED = TransactionState.PREPARED, TransactionState.COMMITTED, TransactionState.ABORTED

names, real_servers = st.sampled_from(NAMES), st.sampled_from(RS)


@dataclass(slots=True)
class ModelTransaction:
    """What should be true of one transaction: where it stands, which destination it adds, until when, and for whom."""

    state: TransactionState
    rs: str = ""
    expires: float = 0.0
    boot: str = ""
    authority: str = ""


class DirectorMachine(RuleBasedStateMachine):
    """A virtual server that is there, and transactions that add destinations to it."""

    def __init__(self) -> None:
        super().__init__()
        self.host = DirectorHost()
        self.model: dict[str, ModelTransaction] = {}
        self.added: set[str] = set()
        """The real servers that are behind the virtual server."""
        self.committed: set[str] = set()
        """Those of them that we put there, and that come back after a reboot."""

    @initialize()
    def serve(self) -> None:
        self.do(self.host.changes.apply(operations.create_virtual_server(WEB, None, None), ""))

    def do(self, work: object) -> object:
        return asyncio.run(work)  # type: ignore[arg-type]

    def refused(self, work: object) -> LvsError | None:
        try:
            self.do(work)
        except LvsError as error:
            return error
        return None

    @rule(name=names, rs=real_servers, authority=st.sampled_from(AUTHORITIES))
    def prepare(self, name: str, rs: str, authority: str) -> None:
        known = self.model.get(name)
        members = tuple(Participant(agent_id=each) for each in AUTHORITIES)
        error = self.refused(
            self.host.transactions.prepare(
                Proposal(id=name, authority=authority, participants=members, operations=(add(rs),), lease=LEASE)
            )
        )
        if known is not None and known.state is ABORTED:
            assert isinstance(error, ConflictError)
        elif known is not None and (known.rs, known.authority) != (rs, authority):
            assert isinstance(error, DiffersError)
        elif known is not None:
            assert error is None
        elif rs not in self.added and any(each.state is PREPARED and each.rs == rs for each in self.model.values()):
            assert error is not None
            assert error.reason is Reason.LOCKED
        elif error is None:
            expires = self.host.clock.now + LEASE
            self.model[name] = ModelTransaction(PREPARED, rs, expires, self.host.clock.boot, authority)
        else:  # in place, but another one reserves it: it was added by hand meanwhile
            assert error.reason is Reason.LOCKED

    @rule(name=names)
    def commit(self, name: str) -> None:
        known = self.model.get(name)
        error = self.refused(self.host.transactions.commit(name, 0))
        if known is None or known.state is ABORTED:
            assert error is not None
            return
        assert error is None
        if known.state is PREPARED:
            known.state = COMMITTED
            if known.rs not in self.added:
                self.committed.add(known.rs)
            self.added.add(known.rs)

    @rule(name=names)
    def abort(self, name: str) -> None:
        known = self.model.setdefault(name, ModelTransaction(ABORTED))
        error = self.refused(self.host.transactions.abort(name))
        if known.state is COMMITTED:
            assert error is not None
            assert error.reason is Reason.TRANSACTION_COMMITTED
        else:
            assert error is None
            known.state = ABORTED

    @rule(name=names)
    def resolve(self, name: str) -> None:
        known = self.model.setdefault(name, ModelTransaction(ABORTED))
        self.do(self.host.transactions.resolve(name))
        self.expire(known)

    @rule(name=names)
    def renew(self, name: str) -> None:
        known = self.model.get(name)
        error = self.refused(self.host.transactions.renew(name, 0, LEASE))
        assert (error is None) == (known is not None and known.state is not ABORTED)
        if known is not None and known.state is PREPARED:
            known.expires, known.boot = self.host.clock.now + LEASE, self.host.clock.boot

    @rule(seconds=st.sampled_from([1.0, 30.0, LEASE]))
    def pass_time(self, seconds: float) -> None:
        self.host.clock.now += seconds
        self.do(self.host.transactions.go_on())
        for each in self.model.values():
            self.expire(each)

    def expire(self, known: ModelTransaction) -> None:
        over = known.boot != self.host.clock.boot or self.host.clock.now >= known.expires
        if known.state is PREPARED and known.authority == "id" and over:
            known.state = ABORTED

    @rule()
    def restart(self) -> None:
        self.host = self.host.restarted()
        self.do(self.host.transactions.start())
        self.do(self.host.restore.start(new_boot=False))

    @rule()
    def reboot(self) -> None:
        boot = BootClock(f"{self.host.clock.boot}+")
        self.host = DirectorHost(state=self.host.state, clock=boot)
        self.do(self.host.transactions.start())
        self.do(self.host.restore.start(new_boot=True))
        self.added = set(self.committed)
        for each in self.model.values():
            if each.state is PREPARED and each.authority == "id":
                each.state = ABORTED

    @rule(rs=real_servers)
    def add_by_hand(self, rs: str) -> None:
        if rs not in self.added:
            self.host.ipvs.add_destination(WEB, destination(rs))
            self.added.add(rs)

    @invariant()
    def the_kernel_has_what_was_committed_and_what_hands_added(self) -> None:
        found = (
            {str(each.destination.key.address) for each in self.host.ipvs.destinations(WEB)} if self.served else set()
        )
        assert found == self.added

    @invariant()
    def every_transaction_stands_where_it_should(self) -> None:
        found = self.do(self.host.transactions.list_all(decided=True))
        assert isinstance(found, list)
        assert {each.id: each.state for each in found} == {name: each.state for name, each in self.model.items()}

    @property
    def served(self) -> bool:
        return self.host.ipvs.virtual_server(WEB) is not None


def add(rs: str) -> Operation:
    return operations.create_destination(WEB, destination(rs).key, None, None)


TestDirector = DirectorMachine.TestCase
TestDirector.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
