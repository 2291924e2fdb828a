"""The one family of errors that the project raises; agent_common.grpc_errors maps it to gRPC and back."""

from __future__ import annotations

import enum

TAKEN_BACK = "taken_back"
"""In the metadata of an error: the name of the change that was begun, and taken back. Else nothing was begun."""

UNFINISHED = "unfinished"
"""Metadata of an error that leaves something changed: the name of the change, which can be reverted by it."""


class Reason(enum.StrEnum):
    """Why something failed: the names of lvsagent.v1.Reason without their prefix (a test holds the two together)."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name

    INVALID_FIELD = enum.auto()
    VIRTUAL_SERVER_NOT_FOUND = enum.auto()
    DESTINATION_NOT_FOUND = enum.auto()
    VIP_NOT_FOUND = enum.auto()
    VIRTUAL_SERVER_DIFFERS = enum.auto()
    DESTINATION_DIFFERS = enum.auto()
    DESTINATION_DRAINING = enum.auto()
    VIP_MODE_DIFFERS = enum.auto()
    IPVS_MISSING = enum.auto()
    MODULE_MISSING = enum.auto()
    NO_CAPABILITY = enum.auto()
    VIP_TAKEN = enum.auto()
    VIP_IS_HOST_ADDRESS = enum.auto()
    VIP_CUTS_PATH = enum.auto()
    VIP_IN_USE = enum.auto()
    ARP_NOT_SILENT = enum.auto()
    IPVS_ON_REAL_SERVER = enum.auto()
    LISTENER_SHADOWED = enum.auto()
    NOT_ON_LINK = enum.auto()
    IN_USE = enum.auto()
    NO_DEVICE = enum.auto()
    WEIGHT_ZERO_REFUSES = enum.auto()
    LAST_DESTINATION = enum.auto()
    CHANGED_MEANWHILE = enum.auto()
    CHANGE_REVERTED = enum.auto()
    DISK_FULL = enum.auto()
    KERNEL_REFUSED = enum.auto()
    INTERNAL = enum.auto()
    NOT_SUPPORTED = enum.auto()
    LOCKED = enum.auto()
    TRANSACTION_NOT_FOUND = enum.auto()
    TRANSACTION_ABORTED = enum.auto()
    TRANSACTION_COMMITTED = enum.auto()
    TRANSACTION_DIFFERS = enum.auto()
    TRANSACTION_OPEN = enum.auto()
    STALE_FENCE = enum.auto()
    NOT_DRAINING = enum.auto()
    JOURNAL_CORRUPT = enum.auto()
    SYNC_DAEMON_NOT_FOUND = enum.auto()
    SYNC_DAEMON_DIFFERS = enum.auto()
    FORWARDING_OFF = enum.auto()
    NO_IDENTITY = enum.auto()
    ROLE_TOO_LOW = enum.auto()
    VIP_NOT_ALLOWED = enum.auto()
    TOO_MANY_CALLS = enum.auto()
    HEALTH_NOT_FOUND = enum.auto()
    SCRIPT_NOT_ALLOWED = enum.auto()
    ACCEPT_LOCAL_OFF = enum.auto()


class LvsError(Exception):
    """Something that an operator can be told: a sentence, why, and the names of the things at fault."""

    def __init__(self, message: str, reason: Reason, *, field: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.metadata = metadata

    def __str__(self) -> str:
        return self.message  # who passes an error on may have said more in it


class InvalidInputError(LvsError):
    """A field breaks a rule (INVALID_ARGUMENT)."""

    def __init__(self, field: str, message: str, **metadata: str) -> None:
        super().__init__(message, Reason.INVALID_FIELD, field=field, **metadata)


class NotFoundError(LvsError):
    """What was named is not there (NOT_FOUND)."""


class DiffersError(LvsError):
    """It is there already, and is another (ALREADY_EXISTS)."""


class RefusedError(LvsError):
    """The state of the host forbids it (FAILED_PRECONDITION)."""


class ConflictError(LvsError):
    """Somebody else changed it, or holds it (ABORTED)."""


class ExhaustedError(LvsError):
    """The host has run out of something (RESOURCE_EXHAUSTED)."""


class UnknownCallerError(LvsError):
    """The caller has not proved who it is (UNAUTHENTICATED)."""


class DeniedError(LvsError):
    """The caller is known, and may not do that (PERMISSION_DENIED)."""


class InternalError(LvsError):
    """A defect (INTERNAL)."""
