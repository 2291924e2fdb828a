"""What one client can take of an agent: sizes, numbers and times, as gRPC's core enforces them."""

from __future__ import annotations

from dataclasses import dataclass

MAX_MESSAGE = 2**20
"""Octets of one message; a whole table comes in several, and a thousand things take 0.2 MiB."""

MAX_LIST = 1000
"""Elements of any list in a message."""

MAX_STREAM = 32 * 2**20
"""Octets of all messages of a stream together: 100,000 destinations take 20 MiB."""

MAX_CALLS = 512
"""Calls that a server works on at a time; the one beyond is refused (RESOURCE_EXHAUSTED) before it is read."""

MAX_CALLS_OF_ONE = 256
"""Calls of one caller at a time, so that nobody takes the room of all others; refused before they are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """How long things may take, whatever deadline the client has set, or not set; else DEADLINE_EXCEEDED.

    receiving: until a request is there as a whole. reading: an answer to what only reads. streaming: a stream of
    answers; who watches comes back. A change that has begun is finished, however long it takes.
    """

    receiving: float = 60.0
    reading: float = 120.0
    streaming: float = 3600.0


SECONDS = Seconds()

MAX_CONNECTIONS = 2048
"""To one address that it listens on; the one beyond is closed. An idle one with TLS takes 90 KiB, and one file."""

_SECOND = 1000
_MINUTE = 60 * _SECOND

OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second agent on the port must fail, not take half of the calls
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.max_concurrent_streams", 128),  # of one connection
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.server_handshake_timeout_ms", 10 * _SECOND),  # who connects and says nothing
    ("grpc.max_connection_idle_ms", 15 * _MINUTE),
    ("grpc.max_connection_age_ms", 24 * 60 * _MINUTE),  # who comes back shows a certificate again
    ("grpc.max_connection_age_grace_ms", 10 * _MINUTE),
    ("grpc.keepalive_time_ms", _MINUTE),  # a client that is gone without a word
    ("grpc.keepalive_timeout_ms", 20 * _SECOND),
    ("grpc.http2.ping_timeout_ms", 20 * _SECOND),  # what a ping is waited for; the one above does not say it (1.85)
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10 * _SECOND),
    ("grpc.http2.max_ping_strikes", 5),
)
"""Channel arguments of every server; their meaning: grpc/include/grpc/impl/channel_arg_names.h."""
