"""What an operator can type next: the commands that outcomes and refusals suggest. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent_common.destination import DestinationKey
from agent_common.errors import LvsError
from agent_common.virtual_server import FirewallMark, VirtualServerKey
from cli.request import Backend

SAME_AGAIN = ""
"""In place of a command: the one that was typed, or for a caller of the library the same call."""

_COMMAND, _PURPOSE = "command", "command_purpose"
"""Metadata of an error that has a way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextCommand:
    """A command, and in a few words what it is for or when to type it."""

    purpose: str
    command: str


def suggest(error: LvsError, purpose: str, command: str) -> LvsError:
    """Give an error the command that gets further."""
    error.metadata.update({_PURPOSE: purpose, _COMMAND: command})
    return error


def suggested(error: LvsError) -> list[NextCommand]:
    """Return the command that an error was given, if it was."""
    if _COMMAND not in error.metadata:
        return []
    return [NextCommand(purpose=error.metadata[_PURPOSE], command=error.metadata[_COMMAND])]


def once_all_run() -> NextCommand:
    """Return how to go on after an agent was lost in the middle."""
    return NextCommand(purpose="to finish, once every agent runs again", command=SAME_AGAIN)


def target(key: VirtualServerKey) -> str:
    """Return the options that name a virtual server."""
    if isinstance(key, FirewallMark):
        return f"--{str(key).replace('/', ' ')}"
    protocol, _, endpoint = str(key).partition("/")
    return f"--vip {endpoint}" + (f" --protocol {protocol}" if protocol != "tcp" else "")


def options_of(backend: Backend, keys: Iterable[DestinationKey] = ()) -> str:
    """Return the options that name real servers behind a virtual server: these, or all that were asked for."""
    return " ".join([target(backend.key), *(f"--rs {key}" for key in tuple(keys) or backend.real_servers)])
