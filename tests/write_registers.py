"""Write the first of a process's registers by libc's ptrace; prints the error, and the register that was read then.

python -m tests.write_registers
"""

from __future__ import annotations

import ctypes
import os
import subprocess

GETREGSET, SETREGSET, ATTACH, X86_XSTATE = 0x4204, 0x4205, 16, 0x202

HEADER, XMM0, SSE = 512, 160, 2
"""Where a state says what is in it, where SSE's first register is, and its bit (Intel's manual, volume 1, 13.4)."""

PART = 640
"""Bytes: the legacy registers, the header, and some more. A machine with AVX has at least 832."""

LETTERS = b"sixteen letters!"


class IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def ask(request: int, state: bytearray) -> int:
        """Read or write as many registers as a state has; the error."""
        given = IoVec(ctypes.addressof(ctypes.c_char.from_buffer(state)), len(state))
        failed = libc.ptrace(request, sleeper.pid, ctypes.c_void_p(X86_XSTATE), ctypes.byref(given))
        return ctypes.get_errno() if failed else 0

    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            assert libc.ptrace(ATTACH, sleeper.pid, None, None) == 0
            os.waitpid(sleeper.pid, os.WUNTRACED)
            part, whole = bytearray(PART), bytearray(65536)
            assert ask(GETREGSET, part) == 0
            part[HEADER] |= SSE
            part[XMM0 : XMM0 + len(LETTERS)] = LETTERS
            error = ask(SETREGSET, part)
            assert ask(GETREGSET, whole) == 0
            print(error, bytes(whole[XMM0 : XMM0 + len(LETTERS)]))
        finally:
            sleeper.kill()


if __name__ == "__main__":
    main()
