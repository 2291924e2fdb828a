"""Checks the destinations of virtual servers that have a policy, and has them stand in the kernel as that says.

Everything here runs on the event loop; what reads or writes kernel and journal is handed to the worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from lvsagent.v1 import health_pb2

from agent_common.check import Check
from agent_common.checker import Answer, Checker
from agent_common.destination import WHOLE, Destination, DestinationHealth, DestinationKey
from agent_common.errors import LvsError
from agent_common.health import Effect, HealthPolicy
from agent_common.virtual_server import VirtualServerKey
from agent_common.worker import Run, to_its_end
from agent_director.check_pace import Pace
from agent_director.checked import Checked, CheckedServer
from agent_director.destination import Destinations
from agent_director.health_effect import SLOW_STEPS
from agent_director.health_gate import target_of
from agent_director.health_log import EventKind, HealthLog
from agent_director.health_records import HealthRecords, Name, Stood
from agent_director.ipvs import Ipvs
from agent_director.judge import Judge
from agent_director.quorum_command import QuorumCommands, RunCommand
from agent_director.standing import Standings

_RETRY_SECONDS = 1.0
"""After a failure of the kernel or the journal, or what somebody has done by hand."""

_BRIEF_SECONDS, _PAUSE_SECONDS = 0.02, 0.1
"""What takes longer leaves loop and worker thread to others for as long again, up to so many seconds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What the journal has of a virtual server that is to be watched; policy None: it has none any more."""

    policy: HealthPolicy | None
    effect: Effect
    destinations: Mapping[DestinationKey, Destination]
    stood: Mapping[DestinationKey, Stood]
    has_quorum: bool


class HealthWatch:
    """Watches every virtual server with a policy, and follows every change of policies and destinations.

    run hands to the worker thread, ahead of others: what is dead must not wait for a long list.
    """

    def __init__(
        self,
        ipvs: Ipvs,
        records: HealthRecords,
        destinations: Destinations,
        standings: Standings,
        run: Run,
        checker: Checker,
        log: HealthLog,
        run_command: RunCommand,
        pace: Pace | None = None,
    ) -> None:
        self._ipvs = ipvs
        self._records = records
        self._destinations = destinations
        self._standings = standings
        self._run = run
        self._checker = checker
        self._log = log
        self._pace = pace or Pace()
        self._servers: dict[VirtualServerKey, CheckedServer] = {}
        self._touched: dict[VirtualServerKey, None] = {}
        self._undecided: dict[VirtualServerKey, None] = {}
        self._timers: dict[VirtualServerKey, asyncio.TimerHandle] = {}
        self._wanted: dict[Name, Stood] = {}
        self._quorums: dict[VirtualServerKey, bool] = {}
        self._unsettled: set[Name] = set()
        self._woken = asyncio.Event()
        self._commands = QuorumCommands(run_command)

    async def follow(self) -> None:
        """Check until cancelled; then what is written is finished, and the kernel stays as it is."""
        loop = asyncio.get_running_loop()
        self._records.touched = lambda server: _threadsafe(loop, self.touch, server)
        try:
            while True:
                if await self._try(self._begin):
                    break
                await asyncio.sleep(_RETRY_SECONDS)
            while True:
                await self._woken.wait()
                self._woken.clear()
                begun = loop.time()
                if not await self._try(self._work):
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._woken.set()
                elif (spent := loop.time() - begun) > _BRIEF_SECONDS:
                    await asyncio.sleep(min(spent, _PAUSE_SECONDS))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            await self._pace.close()
            await self._commands.finish()

    async def _try(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do something to its end; whatever fails in it, dead servers must go on being taken out."""
        try:
            await to_its_end(work())
        except Exception as error:
            self._say(error)
            return False
        return True

    async def _begin(self) -> None:
        """Take up what the agent before this one may have died in, and all that is to be watched."""
        await self._settle()
        for server in await self._run(self._known):
            self.touch(server)

    async def _settle(self, only: set[Name] | None = None) -> None:
        """Have out of the kernel who is out; whom it refuses, later."""
        if refused := await self._run(partial(self._standings.settle, only)):
            _log.warning("health: cannot take out %s: the kernel refuses", ", ".join(f"{key}" for _, key in refused))
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._settle_soon, refused)

    def _settle_soon(self, names: set[Name]) -> None:
        self._unsettled = names
        self._woken.set()

    def touch(self, server: VirtualServerKey) -> None:
        """Read a virtual server again: its policy or its destinations may have changed."""
        self._touched[server] = None
        self._woken.set()

    def report(self, server: VirtualServerKey, key: DestinationKey) -> DestinationHealth | None:
        """Return what the checks of a destination say; from any thread."""
        watched = self._servers.get(server)
        checked = watched.members.get(key) if watched is not None else None
        return self._records.report(server, key) if checked is None else checked.health()

    def servers(self) -> list[CheckedServer]:
        """Return all virtual servers that are watched."""
        return list(self._servers.values())

    def server(self, key: VirtualServerKey) -> CheckedServer | None:
        """Return a virtual server as it is watched; None if it is not yet, or has no policy. From any thread."""
        return self._servers.get(key)

    def _known(self) -> list[VirtualServerKey]:
        return list(dict.fromkeys((*self._records.policies(), *self._records.servers_with_standings())))

    async def _work(self) -> None:
        """Read what was touched, decide what is undecided, write what is wanted."""
        if self._unsettled:
            await self._settle(self._unsettled)
            self._unsettled = set()
        touched, self._touched = self._touched, {}
        is_said = False
        for server in touched:
            try:
                self._take_in(server, await self._run(partial(self._read, server)))
            except Exception as error:  # of the others it says nothing
                if not is_said:
                    self._say(error)
                is_said = True
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.touch, server)
        undecided, self._undecided = self._undecided, {}
        for server in undecided:
            if server in self._servers:
                try:
                    self._decide(self._servers[server])
                except Exception as error:  # of the others it says nothing
                    self._say(error)
                    self._decide_in(server, _RETRY_SECONDS)
        if self._wanted or self._quorums:
            await self._write()

    def _read(self, server: VirtualServerKey) -> _Reading:
        policy, there = self._records.policy(server), self._ipvs.virtual_server(server)
        effect = Effect.WEIGHT_ZERO if policy is None or there is None else policy.effect_under(there)
        return _Reading(
            policy=policy,
            effect=effect,
            destinations=self._destinations.committed_in(server),
            stood=dict(self._records.stood(server)),
            has_quorum=self._records.has_quorum(server),
        )

    def _take_in(self, key: VirtualServerKey, reading: _Reading) -> None:
        """Watch a virtual server as it is now; one without a policy no more."""
        watched = self._servers.get(key)
        if reading.policy is None:
            self._drop(key, reading)
            return
        if watched is None:
            watched = self._servers[key] = CheckedServer(
                key=key,
                policy=reading.policy,
                effect=reading.effect,
                has_quorum=reading.has_quorum,
                since=time.time(),
            )
        watched.policy, watched.effect = reading.policy, reading.effect
        for gone in watched.members.keys() - reading.destinations.keys():
            self._end(watched.members.pop(gone))
        for destination in reading.destinations.values():
            self._watch(watched, destination, reading.stood.get(destination.key, Stood(standing=WHOLE)))
        self._undecided[key] = None

    def _drop(self, key: VirtualServerKey, reading: _Reading) -> None:
        """Watch it no more, and give its destinations back the weights that the operator wants."""
        watched = self._servers.pop(key, None)
        for each in watched.members.values() if watched is not None else ():
            self._end(each)
        for name in [name for name in self._wanted if name[0] == key]:
            del self._wanted[name]
        for destination in reading.stood.keys() & reading.destinations.keys():
            self._wanted[key, destination] = Stood(standing=WHOLE)
        if not reading.has_quorum:
            self._quorums[key] = True

    def _end(self, checked: Checked) -> None:
        if checked.paced is not None:
            self._pace.remove(checked.paced)

    def _watch(self, server: CheckedServer, destination: Destination, stood: Stood) -> None:
        """Watch a destination as it is now; what is known of it stays known."""
        check = server.policy.check_of(destination.key)
        checked = server.members.get(destination.key)
        was_unchecked = checked is not None and checked.check is None
        if checked is None:
            checked = server.members[destination.key] = _found(server.policy, destination, stood)
        checked.destination, checked.refused, checked.again = destination, "", 0.0
        if (server.key, destination.key) not in self._wanted:
            checked.stood = stood  # somebody may have removed and added it
        if check == checked.check and (check is None or checked.paced is not None):
            return
        self._end(checked)
        if was_unchecked:  # what an earlier check said of it is over, and who is out is to be proven
            is_up = not checked.is_out or destination.key == server.policy.sorry
            checked.judge = Judge(is_up=is_up, since=time.time(), turned=time.monotonic())
        checked.check, checked.paced = check, None
        if check is not None:
            checked.paced = self._pace.add(partial(self._make, server, checked, check), check.interval)

    async def _make(self, server: CheckedServer, checked: Checked, check: Check) -> None:
        """Make one check, and take what it says."""
        begun = time.monotonic()
        target = target_of(server.key, server.policy, checked.destination, check)
        try:
            answer = await self._checker(check.kind, target, check.timeout)
        except Exception as error:  # it is no verdict, and without one who is dead would stay in for ever
            answer = Answer(passed=False, detail=f"the check itself failed: {error or type(error).__name__}")
            if answer.detail != checked.judge.detail:
                self._say(error)
        now = time.monotonic()
        if checked.check is not check or server.members.get(checked.destination.key) is not checked:
            return
        was_up, judge = checked.judge.is_up, checked.judge
        news = judge.take(answer, check, took=now - begun, now=now, wall=time.time())
        if judge.is_up != was_up:
            kind = health_pb2.HEALTH_EVENT_KIND_UP if judge.is_up else health_pb2.HEALTH_EVENT_KIND_DOWN
            self._tell(kind, server.key, checked.destination.key, answer.detail)
        if server.policy.dynamic_weight is not None and answer.passed:
            news |= judge.weigh(answer.percent)
        if news:
            self._decide_soon(server.key)

    def _decide_soon(self, key: VirtualServerKey) -> None:
        self._undecided[key] = None
        self._woken.set()

    def _decide_in(self, key: VirtualServerKey, seconds: float) -> None:
        """Decide after so many seconds, if that is not to be done earlier already."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and not timer.cancelled() and loop.time() < timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._decide_soon, key)

    def _decide(self, server: CheckedServer) -> None:
        """Have destinations stand as their verdicts say."""
        verdicts = server.decide(time.monotonic(), time.time())
        for kind, detail in verdicts.news:
            self._tell(kind, server.key, None, detail)
            self._follow_quorum(server, kind)
        for key, stood in verdicts.wanted:
            self._wanted[server.key, key] = stood
        if (timer := self._timers.pop(server.key, None)) is not None:
            timer.cancel()
        if verdicts.again is not None:
            self._decide_in(server.key, verdicts.again)

    def _follow_quorum(self, server: CheckedServer, kind: EventKind.ValueType) -> None:
        """Keep that the quorum was lost or regained, and run the command for it."""
        commands = {
            health_pb2.HEALTH_EVENT_KIND_QUORUM_LOST: server.policy.down_command,
            health_pb2.HEALTH_EVENT_KIND_QUORUM_REGAINED: server.policy.up_command,
        }
        if kind not in commands:
            return
        self._quorums[server.key] = server.has_quorum
        self._commands.run(commands[kind], server.key, has_quorum=server.has_quorum)

    async def _write(self) -> None:
        """Bring what is wanted into the kernel, all of it at once, and tell what came of it."""
        wanted, self._wanted = self._wanted, {}
        quorums, self._quorums = self._quorums, {}

        def write() -> dict[Name, str]:
            failed = self._standings.apply([(server, key, stood) for (server, key), stood in wanted.items()])
            self._standings.keep_quorums(quorums)
            return failed

        try:
            failed = await self._run(write)
        except Exception as error:  # they are tried again like what the kernel refuses
            self._say(error)
            why = error.message if isinstance(error, LvsError) else "unexpected failure"
            failed = dict.fromkeys(wanted, why)
            self._quorums = {**quorums, **self._quorums}
        for name, stood in wanted.items():
            self._stand(name, stood, failed.get(name, ""))

    def _stand(self, name: Name, stood: Stood, refused: str) -> None:
        """Note how a destination stands now, or why it does not."""
        server = self._servers.get(name[0])
        checked = server.members.get(name[1]) if server is not None else None
        if checked is None:
            if refused and server is None:  # it is watched no more, and is to have its weight back all the same
                _log.warning("health: cannot put back %s in %s: %s", name[1], name[0], refused)
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.touch, name[0])
            return
        if refused:
            if refused != checked.refused:
                _log.warning("health: cannot change %s in %s: %s", name[1], name[0], refused)
            checked.refused, checked.again = refused, time.monotonic() + _RETRY_SECONDS
            self._decide_in(name[0], _RETRY_SECONDS)
            return
        was_out, checked.stood, checked.refused, checked.again = checked.is_out, stood, "", 0.0
        if was_out and not checked.is_out:
            checked.came_in = time.monotonic()
            slow = server.policy.slow_start if server is not None else 0.0
            detail = f"its weight rises over {slow:g} s" if slow else stood.why or checked.judge.detail
            self._tell(health_pb2.HEALTH_EVENT_KIND_IN, *name, detail)
        elif checked.is_out and not was_out:
            self._tell(health_pb2.HEALTH_EVENT_KIND_OUT, *name, stood.why, is_meant=not stood.is_down)

    def _tell(
        self,
        kind: EventKind.ValueType,
        server: VirtualServerKey,
        key: DestinationKey | None,
        detail: str,
        *,
        is_meant: bool = False,
    ) -> None:
        try:
            self._log.tell(kind, server, key, detail, time.time(), is_meant=is_meant)
        except Exception as error:  # what has been done or is to be done does not hang on it
            self._say(error)

    def _say(self, error: Exception) -> None:
        if isinstance(error, LvsError):
            _log.warning("cannot follow health checks: %s", error.message)
        else:
            _log.error("unexpected failure in health checks; they go on all the same", exc_info=error)


def _found(policy: HealthPolicy, destination: Destination, stood: Stood) -> Checked:
    """Return a destination as it is found: who is out is proven before it comes in again, whatever it was out for."""
    now, percent = time.monotonic(), stood.standing.percent
    is_up = not stood.is_down and (percent > 0 or destination.key == policy.sorry)
    judge = Judge(is_up=is_up, since=stood.since or time.time(), turned=now, detail=stood.why)
    came_in = None
    if 0 < percent < 100 and policy.dynamic_weight is not None:  # what the last answer said
        judge.percent = percent
    elif 0 < percent < 100 and policy.slow_start:
        came_in = now - policy.slow_start * max(0, percent - 100 // SLOW_STEPS) / 100
    return Checked(destination=destination, check=None, judge=judge, stood=stood, came_in=came_in)


def _threadsafe(
    loop: asyncio.AbstractEventLoop, touch: Callable[[VirtualServerKey], None], server: VirtualServerKey
) -> None:
    """Tell the event loop of a virtual server, from the worker thread; a loop that has ended need not know."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(touch, server)
