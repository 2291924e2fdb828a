"""The sites' application: answers every HTTP request, datagram, or SCTP association with the server's name.

    python3 lab/web.py http|udp|sctp ADDRESS PORT NAME

Prints `ready` once the socket is bound. A connection that asks nothing stays open for as long as the
client likes, which is what a test of draining needs.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys

LARGEST_REQUEST = 65536


def bound(kind: socket.SocketKind, address: str, port: int, protocol: int = 0) -> socket.socket:
    """A socket on the address; on :: it takes IPv4 too."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((address, port))
    return sock


def answer(name: str) -> bytes:
    body = f"{name}\n"
    head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def serve_http(listener: socket.socket, name: str) -> None:
    """Answer each connection once its request has come to an end, then close it."""
    waiting: dict[socket.socket, bytes] = {}
    listener.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, listener)
        while True:
            for key, _ in selector.select():
                sock: socket.socket = key.data
                if sock is listener:
                    with contextlib.suppress(OSError):  # the client went away meanwhile
                        connection, _peer = listener.accept()
                        waiting[connection] = b""
                        selector.register(connection, selectors.EVENT_READ, connection)
                elif (request := read_request(sock, waiting[sock])) is not None:
                    waiting[sock] = request
                else:
                    del waiting[sock]
                    selector.unregister(sock)
                    finish(sock, answer(name))


def read_request(sock: socket.socket, so_far: bytes) -> bytes | None:
    """The request as far as it has come; None when it is complete or the client is gone."""
    try:
        more = sock.recv(4096)
    except OSError:
        return None
    so_far += more
    ended = b"\r\n\r\n" in so_far or len(so_far) > LARGEST_REQUEST
    return None if ended or not more else so_far


def finish(sock: socket.socket, reply: bytes) -> None:
    with sock, contextlib.suppress(OSError):  # the client may be gone; nobody is left to tell
        sock.sendall(reply)


def serve_udp(sock: socket.socket, name: str) -> None:
    """Answer each datagram; the answer's source is the address that the socket is bound to."""
    while True:
        _, peer = sock.recvfrom(65536)
        sock.sendto(name.encode(), peer)


def serve_sctp(listener: socket.socket, name: str) -> None:
    """Answer each association, and end it."""
    while True:
        connection, _ = listener.accept()
        finish(connection, name.encode())


def main(protocol: str, address: str, port: str, name: str) -> None:
    if protocol == "http":
        listener = bound(socket.SOCK_STREAM, address, int(port))
        listener.listen(512)
        print("ready", flush=True)
        serve_http(listener, name)
    elif protocol == "sctp":
        listener = bound(socket.SOCK_STREAM, address, int(port), socket.IPPROTO_SCTP)
        listener.listen(16)
        print("ready", flush=True)
        serve_sctp(listener, name)
    else:
        sock = bound(socket.SOCK_DGRAM, address, int(port))
        print("ready", flush=True)
        serve_udp(sock, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
