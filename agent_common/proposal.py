"""What a coordinator asks an agent to prepare, and the rules for that. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent_common.errors import InvalidInputError
from agent_common.operation import Operation
from agent_common.transaction import Following, Participant, check_lease

MAX_NAME = 64
MAX_PURPOSE = 20_000
MAX_PARTICIPANTS = 1000
MAX_TEXT = 300
"""Characters of a name that another agent has."""

MAX_DRAIN = 86400.0
"""Seconds for connections to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a coordinator asks an agent to prepare; times are in seconds, an empty etag takes any plan."""

    id: str
    purpose: str = ""
    authority: str
    participants: tuple[Participant, ...]
    operations: tuple[Operation, ...]
    lease: float
    etag: str = ""
    following: tuple[Following, ...] = ()
    drain_timeout: float = 0.0


def check_proposal(proposal: Proposal) -> None:
    """Raise InvalidInputError for what the proposal alone shows to be wrong."""
    check_name(proposal.id)
    check_lease(proposal.lease)
    check_participants(proposal.authority, proposal.participants)
    if len(proposal.purpose) > MAX_PURPOSE or not proposal.purpose.isprintable():
        raise InvalidInputError(
            "purpose", f"purpose: is longer than {MAX_PURPOSE} characters, or has some that cannot be printed"
        )
    if not proposal.authority:
        raise InvalidInputError("authority", "authority: must be set")
    if proposal.authority not in {each.agent_id for each in proposal.participants}:
        raise InvalidInputError("authority", f"authority: {proposal.authority!r} is not among the participants")
    if not 0 <= proposal.drain_timeout <= MAX_DRAIN:
        raise InvalidInputError(
            "drain_timeout", f"drain_timeout: {proposal.drain_timeout:g} s is out of range (0 to {MAX_DRAIN:g} s)"
        )


def check_name(name: str) -> None:
    """Raise InvalidInputError for what cannot be the name of a transaction: it is shown on terminals and in logs."""
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidInputError(
            "transaction_id", f"transaction_id: {len(name)} characters are not 1 to {MAX_NAME} characters"
        )
    if not name.isascii() or not name.isprintable():
        raise InvalidInputError("transaction_id", "transaction_id: has other than printable ASCII characters")


def check_participants(authority: str, participants: Sequence[Participant]) -> None:
    """Raise InvalidInputError for what cannot name agents: whoever finishes goes by it, and it is kept."""
    if len(participants) > MAX_PARTICIPANTS:
        raise InvalidInputError("participants", f"participants: {len(participants)} are more than {MAX_PARTICIPANTS}")
    for field, text in (
        ("authority", authority),
        *(("participants.agent_id", each.agent_id) for each in participants),
        *(("participants.address", each.address) for each in participants),
    ):
        if len(text) > MAX_TEXT or not text.isprintable():
            raise InvalidInputError(field, f"{field}: is longer than {MAX_TEXT} characters, or cannot be printed")
