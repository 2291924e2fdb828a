"""A client who asks a virtual server again and again, on a connection of its own each time, until it is told to end.

    python3 asker.py ADDRESS PORT FILE

Appends to FILE a line for each question: `answered NAME SECONDS` or `failed WHY SECONDS`. A further connection, opened
before the first question, is kept until the end, and asked then: `kept NAME` or `kept failed WHY`.
"""

from __future__ import annotations

import signal
import socket
import sys
import time

PATIENCE = 5.0
PAUSE = 0.1


def ask(connection: socket.socket) -> str:
    """Who answers an HTTP request on this connection, which the answer ends."""
    with connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        reply = b""
        while more := connection.recv(4096):
            reply += more
    head, separator, body = reply.partition(b"\r\n\r\n")
    if not separator or b" 200 " not in head:
        raise ConnectionError(f"no answer in {len(reply)} bytes")
    return body.decode().strip()


def main(address: str, port: int, file: str) -> None:
    """Ask until SIGTERM."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    kept = socket.create_connection((address, port), PATIENCE)
    with open(file, "a", buffering=1) as answers:  # noqa: PTH123  # each line is there at once
        while not told:
            began = time.monotonic()
            try:
                said = f"answered {ask(socket.create_connection((address, port), PATIENCE))}"
            except OSError as error:
                said = f"failed {type(error).__name__}"
            print(said, f"{time.monotonic() - began:.3f}", file=answers)
            time.sleep(PAUSE)
        try:
            print("kept", ask(kept), file=answers)
        except OSError as error:
            print("kept failed", type(error).__name__, file=answers)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
