"""Binds an agent's endpoints: each way in, with who comes that way."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from agent_common.access import Callers, Everybody
from agent_common.endpoint import Endpoint
from agent_common.errors import InvalidInputError, Reason, RefusedError
from agent_common.identity import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Endpoints at which the same callers come in; group is who may open a unix socket, beside the agent's own user."""

    endpoints: tuple[Endpoint, ...]
    callers: Callers
    group: str = ""
    credentials: grpc.ServerCredentials | None = None

    def bind(self, server: grpc.aio.Server) -> None:
        """Bind every endpoint; raises RefusedError."""
        for endpoint in self.endpoints:
            try:
                if endpoint.path:
                    _bind_socket(server, Path(endpoint.path), self.group)
                elif self.credentials is not None:
                    server.add_secure_port(str(endpoint), self.credentials)
                else:
                    server.add_insecure_port(str(endpoint))
            except (RuntimeError, OSError) as error:
                raise RefusedError(
                    f"cannot listen on {endpoint}: {error}", Reason.IN_USE, endpoint=str(endpoint)
                ) from error


def local_doors(endpoints: Sequence[Endpoint], groups: Mapping[Role, str]) -> Iterator[Door]:
    """Return a door for each unix socket, which is an admin's, and beside it one for each role that has a group."""
    for endpoint in endpoints:
        if not endpoint.path:
            continue
        path = Path(endpoint.path)
        for role in Role.ADMIN, Role.OPERATOR, Role.VIEWER:
            if role is Role.ADMIN or role in groups:
                file = path if role is Role.ADMIN else path.with_name(f"{role}.sock")
                yield Door(
                    endpoints=(Endpoint(path=str(file)),),
                    callers=Everybody(name=f"unix:{file.name}", role=role),
                    group=groups.get(role, ""),
                )


def parse_groups(texts: Sequence[str], field: str) -> dict[Role, str]:
    """Read ROLE=GROUP texts; raises InvalidInputError."""
    groups: dict[Role, str] = {}
    for text in texts:
        name, equals, group = text.partition("=")
        role = next((each for each in Role if str(each) == name and each is not Role.NOBODY), None)
        if role is None or not equals or not group:
            raise InvalidInputError(
                field, f"{field}: cannot read {text!r}; write viewer=GROUP, operator=GROUP or admin=GROUP"
            )
        if role in groups:
            raise InvalidInputError(field, f"{field}: {name} is given twice")
        try:
            grp.getgrnam(group)
        except KeyError:
            raise InvalidInputError(field, f"{field}: there is no group {group!r} on this host") from None
        groups[role] = group
    return groups


def _bind_socket(server: grpc.aio.Server, path: Path, group: str) -> None:
    """Make a socket that this user and the group can open, and nobody else at any time."""
    _free_socket(path)
    with _nobody_else():
        server.add_insecure_port(f"unix:{path}")
    if group:
        try:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        except PermissionError as error:
            raise RefusedError(
                f"cannot give {path} to group {group}: this user must be a member of it", Reason.NO_CAPABILITY
            ) from error
        path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP)


@contextmanager
def _nobody_else() -> Iterator[None]:
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _free_socket(path: Path) -> None:
    """Remove the socket of an agent that is gone; one that still answers is left, and refused."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError("another program listens there")
