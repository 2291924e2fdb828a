"""Errors to gRPC statuses and back: nothing is lost on the way, and the two lists of reasons are one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st
from lvsagent.v1 import error_pb2

from agent_common import errors
from agent_common.errors import InternalError, InvalidInputError, LvsError, NotFoundError, Reason, RefusedError
from agent_common.grpc_errors import DOMAIN, from_item, from_rpc_error, to_item, to_status

CLASSES = LvsError.__subclasses__()

CODES = {
    errors.InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.DiffersError: grpc.StatusCode.ALREADY_EXISTS,
    errors.RefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ConflictError: grpc.StatusCode.ABORTED,
    errors.ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnknownCallerError: grpc.StatusCode.UNAUTHENTICATED,
    errors.DeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}

metadata = st.dictionaries(
    st.sampled_from(["vip", "virtual_server", "destination", "errno", "unfinished"]), st.text(max_size=20)
)


@st.composite
def lvs_errors(draw: st.DrawFn) -> LvsError:
    kind = draw(st.sampled_from(CLASSES))
    message = draw(st.text(min_size=1, max_size=50))
    if kind is InvalidInputError:
        return InvalidInputError(draw(st.sampled_from(["vip.address", "weight"])), message, **draw(metadata))
    return kind(message, draw(st.sampled_from(Reason)), **draw(metadata))


def parts(error: LvsError | None) -> tuple[object, ...]:
    assert error is not None
    return type(error), error.message, error.reason, error.field, error.metadata


def sent(error: LvsError) -> grpc.aio.AioRpcError:
    """Return what a client gets of an error, as grpc.aio makes it."""
    status = rpc_status.to_status(to_status(error))
    trailing = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, details=status.details)


def test_every_reason_is_in_the_proto_enum_and_the_other_way_round() -> None:
    names = {name.removeprefix("REASON_") for name in error_pb2.Reason.DESCRIPTOR.values_by_name} - {"UNSPECIFIED"}
    assert names == {reason.value for reason in Reason}
    assert all(reason.name == reason.value for reason in Reason)


def test_every_reason_says_in_the_proto_which_status_code_it_comes_with() -> None:
    """And it is a code that an error of ours has."""
    text = (Path(__file__).parents[2] / "proto/lvsagent/v1/error.proto").read_text(encoding="utf-8")
    codes = {code.name for code in CODES.values()}
    before = ""
    for line in text.splitlines():
        words = line.split()
        if words and words[0].startswith("REASON_") and words[0] != "REASON_UNSPECIFIED":
            assert before.removeprefix("// ").partition(":")[0] in codes, words[0]
        before = line.strip()


def test_every_class_of_error_has_a_code_of_its_own() -> None:
    assert set(CLASSES) == set(CODES)
    for kind, code in CODES.items():
        error = InvalidInputError("x", "x") if kind is InvalidInputError else kind("x", Reason.INTERNAL)
        assert to_status(error).code == code.value[0]


@given(lvs_errors())
def test_every_error_comes_back_from_a_status(error: LvsError) -> None:
    assert parts(from_rpc_error(sent(error))) == parts(error)


@given(lvs_errors())
def test_every_error_comes_back_from_an_item_of_a_batch(error: LvsError) -> None:
    item = to_item(error)
    assert parts(from_item(error_pb2.ItemError.FromString(item.SerializeToString()))) == parts(error)


def test_a_field_at_fault_is_in_a_bad_request() -> None:
    status = to_status(InvalidInputError("weight", "weight: 3 is odd"))
    details = {each.type_url.rpartition(".")[2]: each for each in status.details}
    bad = error_details_pb2.BadRequest()
    assert details["BadRequest"].Unpack(bad)
    (violation,) = bad.field_violations
    assert (violation.field, violation.description) == ("weight", "weight: 3 is odd")
    info = error_details_pb2.ErrorInfo()
    assert details["ErrorInfo"].Unpack(info)
    assert (info.reason, info.domain) == ("REASON_INVALID_FIELD", DOMAIN)


def test_without_a_field_there_is_no_bad_request() -> None:
    (detail,) = to_status(RefusedError("no", Reason.IN_USE)).details
    assert detail.type_url.endswith("google.rpc.ErrorInfo")


def test_a_failure_of_grpc_itself_is_not_an_error_of_ours() -> None:
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="gone")
    assert from_rpc_error(bare) is None


def test_an_error_of_another_program_is_not_one_of_ours() -> None:
    status = to_status(NotFoundError("x", Reason.VIP_NOT_FOUND))
    info = error_details_pb2.ErrorInfo(reason="OTHER", domain="example.com")
    status.details[0].Pack(info)
    said = rpc_status.to_status(status)
    trailing = grpc.aio.Metadata(*said.trailing_metadata)
    error = grpc.aio.AioRpcError(said.code, grpc.aio.Metadata(), trailing, details=said.details)
    assert from_rpc_error(error) is None


def test_a_reason_of_a_newer_agent_is_still_an_error_with_its_message() -> None:
    """The command line may be older than an agent."""
    status = to_status(RefusedError("the moon is full", Reason.IN_USE))
    status.details[0].Pack(error_details_pb2.ErrorInfo(reason="REASON_FULL_MOON", domain=DOMAIN))
    said = rpc_status.to_status(status)
    trailing = grpc.aio.Metadata(*said.trailing_metadata)
    error = from_rpc_error(grpc.aio.AioRpcError(said.code, grpc.aio.Metadata(), trailing, details=said.details))
    assert isinstance(error, RefusedError)
    assert error.message == "the moon is full"
    item = error_pb2.ItemError(code=code_pb2.FAILED_PRECONDITION, reason=9999, message="the moon is full")  # type: ignore[arg-type]
    error = from_item(error_pb2.ItemError.FromString(item.SerializeToString()))
    assert isinstance(error, RefusedError)
    assert error.message == "the moon is full"


def test_an_error_reads_as_its_message_also_when_more_was_said_in_it() -> None:
    error = InternalError("x", Reason.INTERNAL)
    error.message += "; y"
    assert str(error) == "x; y"


@pytest.mark.parametrize("reason", list(Reason))
def test_reasons_are_upper_case_words(reason: Reason) -> None:
    assert reason.value.replace("_", "").isalnum()
    assert reason.value == reason.value.upper()


class NarrowerError(InternalError):
    """As a codec's error is."""


def test_an_error_of_a_narrower_class_is_sent_as_what_it_is_a_kind_of() -> None:
    """It was a KeyError, whose text the client got to see."""
    error = NarrowerError("cannot read attribute 4", Reason.INTERNAL)
    assert parts(from_rpc_error(sent(error))) == parts(InternalError("cannot read attribute 4", Reason.INTERNAL))
    assert to_item(error).code == code_pb2.INTERNAL


def test_a_status_that_contradicts_its_details_is_grpcs_own() -> None:
    """As when the headers of an error are too large: the client's own status stands before the agent's details."""
    status = rpc_status.to_status(to_status(InvalidInputError("weight", "weight: no")))
    trailing = grpc.aio.Metadata(*status.trailing_metadata)
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert from_rpc_error(grpc.aio.AioRpcError(exhausted, grpc.aio.Metadata(), trailing, details="too large")) is None


@given(st.text(max_size=3000), st.dictionaries(st.sampled_from("abcdefgh"), st.text(max_size=600)))
def test_the_headers_of_any_error_are_within_what_a_client_takes(text: str, names: dict[str, str]) -> None:
    """8 KiB; what is cut ends in dots, and a text that fits is whole."""
    status = to_status(RefusedError(text, Reason.LOCKED, field=text, **names))
    assert len(status.SerializeToString()) * 4 / 3 + len(quote(status.message, safe=" ")) < 7900
    assert status.message == text or (status.message.endswith("...") and len(status.message) > 100)
