"""Every RPC of both agents with messages that nobody would send: refused in our own words, and without a trace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import strategies as st

from agent_common.audit import only_validates
from agent_common.identity import Kind
from agent_common.rpc_names import only_reads
from tests.common import asking
from tests.common.test_access import image, make_host, short
from tests.fuzz.agents import MORE, Asked, Ended, all_methods, ask, good_request, leaves_something, serving, tamed
from tests.fuzz.descriptors import messages, near
from tests.fuzz.fuzzing import Fuzz

DEFECTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
ORDER = (
    "ArpService/SilenceArp",
    "IpvsService/CreateVirtualServer",
    "IpvsService/CreateDestination",
    "VipService/CreateVip",
    "TransactionService/PrepareTransaction",
    "TransactionService/ReadyTransaction",
    "TransactionService/CommitTransaction",
)
FOREIGN = {"Health", "ServerReflection"}
KINDS = [Kind.DIRECTOR, Kind.REALSERVER]


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@st.composite
def calls(draw: st.DrawFn, method: MethodDescriptor, kind: Kind) -> Asked:
    """A call of one RPC: sensible, nearly so, or not at all."""
    message = near(good_request(method, kind)) | near(good_request(method, kind)) | messages(method.input_type)
    most = 3 if method.client_streaming else 1
    requests = draw(st.lists(message.map(tamed), min_size=0 if method.client_streaming else 1, max_size=most))
    return Asked(method=method, requests=requests)


def histories(kind: Kind, folder: Path) -> st.SearchStrategy[Sequence[Asked]]:
    """Some calls, one after the other; before them sensible ones, so that there is something to change."""
    found = all_methods(kind, folder)
    texts = asking.DIRECTOR if kind is Kind.DIRECTOR else asking.REAL_SERVER
    making = [each for name in ORDER for each in found if short(each) == name and name in MORE | texts]
    sensible = [Asked(method=each, requests=[good_request(each, kind)]) for each in making]
    before = st.integers(0, len(sensible)).map(lambda number: sensible[:number])
    each = st.sampled_from(found).flatmap(lambda method: calls(method, kind))
    return st.tuples(before, st.lists(each, min_size=1, max_size=8)).map(lambda both: [*both[0], *both[1]])


@pytest.mark.parametrize("kind", KINDS)
def test_any_message_is_answered_or_refused_without_a_trace(
    kind: Kind, fuzz: Fuzz, loop: asyncio.Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each call ends in time, OK or with a reason of ours; one that failed or only validated has changed nothing."""
    counted: dict[grpc.StatusCode, int] = {}

    async def check(history: Sequence[Asked]) -> None:
        host = make_host(kind)
        async with serving(host, kind, tmp_path) as target, grpc.aio.insecure_channel(target) as channel:
            for asked in history:
                before = image(host)
                ended = await ask(channel, asked)
                counted[ended.code] = counted.get(ended.code, 0) + 1
                complain(asked, ended)
                if changes_nothing(asked, ended):
                    assert image(host) == before, f"{asked} {ended}"
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
        caplog.clear()

    fuzz(lambda history: loop.run(check(history)), histories(kind, tmp_path), examples=120)
    print({code.name: number for code, number in counted.items()})


def complain(asked: Asked, ended: Ended) -> None:
    """Fail unless a call ended as an RPC of ours may."""
    assert ended.code not in DEFECTS, f"{asked} {ended}"
    if asked.method.containing_service.name not in FOREIGN:
        assert not ended.is_foreign, f"{asked} {ended}"


def changes_nothing(asked: Asked, ended: Ended) -> bool:
    if ended.code is grpc.StatusCode.OK:
        return only_reads(asked.method.name) or any(only_validates(each) for each in asked.requests)
    return not leaves_something(ended)
