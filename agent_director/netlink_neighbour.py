"""The host's neighbour table by rtnetlink (RTM_NEWNEIGH, RTM_GETNEIGH of Linux 5.0 and later), through pyroute2."""

from __future__ import annotations

import errno
import socket
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from agent_common.errors import LvsError
from agent_common.netlink_address import asking_kernel, index_of, open_route_socket
from agent_common.virtual_server import IpAddress, family_of
from agent_director.neighbour import Answer, Finding, Question

# include/uapi/linux/neighbour.h
NTF_USE = 0x01
NUD_NONE = 0x00
NUD_REACHABLE = 0x02
NUD_STALE = 0x04
NUD_DELAY = 0x08
NUD_PROBE = 0x10
NUD_FAILED = 0x20
NUD_NOARP = 0x40
NUD_PERMANENT = 0x80

ANSWERED = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT
"""States with a MAC address. The entry is new, so each of them means that somebody spoke for the address just now."""


class NetlinkNeighbours:
    """agent_director.neighbour.Neighbours for the kernel; made, used and closed in one thread without an event loop."""

    def __init__(self) -> None:
        self._netlink = open_route_socket()

    def start_question(self, address: IpAddress, device: str) -> Question:
        """Forget what is known of the address, and make the kernel ask for it."""
        doing = f"ask whether another host on {device} has {address}"
        index = index_of(device, doing)
        question = Question(address=address, device=device, static_mac=self._static_mac(address, index, doing))
        self._forget(address, index, doing)
        try:
            with asking_kernel(doing):
                # Not "add": an entry that is still referred to survives its removal, in the state FAILED.
                self._change("replace", address, index, state=NUD_NONE, flags=NTF_USE)
        except LvsError:
            self.end_question(question)
            raise
        return question

    def poll_answer(self, question: Question) -> Answer:
        """Return what has come of it so far; FREE on interfaces that ask nobody."""
        doing = f"read the answer for {question.address}"
        entry = self._entry(question.address, index_of(question.device, doing), doing)
        state = entry["state"] if entry else NUD_NONE
        if state & ANSWERED:
            return Answer(finding=Finding.TAKEN, mac=entry.get_attr("NDA_LLADDR") or "")
        return Answer(finding=Finding.FREE if state & (NUD_FAILED | NUD_NOARP) else Finding.PENDING)

    def end_question(self, question: Question) -> None:
        """Remove the entry, and put back an operator's permanent one."""
        doing = f"end the question for {question.address}"
        try:
            index = socket.if_nametoindex(question.device)
        except OSError:
            return  # an interface takes its entries with it
        self._forget(question.address, index, doing)
        if question.static_mac:
            with asking_kernel(f"put back the permanent neighbour entry of {question.address}"):
                self._change("replace", question.address, index, state=NUD_PERMANENT, lladdr=question.static_mac)

    def close(self) -> None:
        """Release the socket."""
        self._netlink.close()

    def _static_mac(self, address: IpAddress, index: int, doing: str) -> str:
        entry = self._entry(address, index, doing)
        return (entry.get_attr("NDA_LLADDR") or "") if entry and entry["state"] & NUD_PERMANENT else ""

    def _entry(self, address: IpAddress, index: int, doing: str) -> Any:
        """Return the entry, or None."""
        with asking_kernel(doing):
            try:
                return self._netlink.neigh("get", dst=str(address), ifindex=index, family=int(family_of(address)))[0]
            except NetlinkError as error:
                if error.code == errno.ENOENT:
                    return None
                raise

    def _forget(self, address: IpAddress, index: int, doing: str) -> None:
        with asking_kernel(doing):
            try:
                self._change("del", address, index)
            except NetlinkError as error:
                if error.code not in (errno.ENOENT, errno.ENODEV):
                    raise

    def _change(self, command: str, address: IpAddress, index: int, **values: int | str) -> None:
        self._netlink.neigh(command, dst=str(address), ifindex=index, family=int(family_of(address)), **values)
