"""An agent in a process of its own, served with TLS on fakes, looked at from outside; and a good client in another."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_common.identity import Kind
from tests.certificates import Authority, uri

HERE = "127.0.0.1"
NEEDED_FILES = 4096

AGENT = """
import asyncio, sys
from pathlib import Path
import agent_realserver
from tests.common.test_access import serving
from agent_common.endpoint import Endpoint
from agent_common.identity import Kind
from tests.hosts import RealServerHost

async def main():
    async with serving(Path(sys.argv[1]), Kind.REALSERVER, RealServerHost(), **eval(sys.argv[2])) as target:
        print(target, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""

GOOD_CLIENT = """
import sys, time
from pathlib import Path
import grpc
from lvsagent.v1 import vip_service_pb2, vip_service_pb2_grpc

target, *files = sys.argv[1:]
ca, key, cert = (Path(each).read_bytes() for each in files)
while True:
    begun = time.monotonic()
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
        vip_service_pb2_grpc.VipServiceStub(channel).ListVips(vip_service_pb2.ListVipsRequest(), timeout=30)
    print(time.monotonic() - begun, flush=True)
    time.sleep(0.1)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Where it is, and the certificates of its callers in a folder."""

    target: str
    folder: Path
    pid: int

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.target.rpartition(":")
        return host, int(port)

    def resident(self) -> float:
        """Return its resident memory in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("it has ended")

    def descriptors(self) -> int:
        """Return how many files it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208  # the names alone

    def files(self, name: str) -> tuple[Path, Path, Path]:
        """Return CA, key and certificate of a caller."""
        return self.folder / "ca.crt", self.folder / f"{name}.key", self.folder / f"{name}.crt"

    def connect(self) -> socket.socket:
        """Return a TCP connection on which nothing was said yet."""
        return socket.create_connection(self.address, timeout=20)

    def connect_with_tls(self, name: str) -> ssl.SSLSocket:
        """Return a connection of a caller that can speak HTTP/2."""
        ca, key, cert = self.files(name)
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(cert, key)
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(self.connect(), server_hostname=HERE)


@contextmanager
def running_agent(folder: Path, more: str = "{}") -> Iterator[Agent]:
    """Run a real server's agent, with callers viewer and admin, and eve, a viewer too; more are settings in Python."""
    _allow_many_files()
    ca = Authority(folder)
    ca.issue("server", uri(Kind.REALSERVER, "rs1"), addresses=[HERE])
    for name, role in (("viewer", "viewer"), ("admin", "admin"), ("eve", "viewer")):
        ca.issue(name, uri(role, name))
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-c", AGENT, str(folder), more]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            yield Agent(target=process.stdout.readline().strip(), folder=folder, pid=process.pid)
            assert process.poll() is None, "it has died"
            said = (folder / "log").read_text(encoding="utf-8", errors="replace")
            assert "Traceback" not in said, said[said.index("Traceback") - 500 :][:3000]
        finally:
            process.kill()
            process.communicate()


@contextmanager
def good_client(agent: Agent) -> Iterator[list[float]]:
    """Call the agent again and again, each time on a new connection; in the end the seconds of each are there."""
    ca, key, cert = agent.files("admin")
    command = [sys.executable, "-c", GOOD_CLIENT, agent.target, str(ca), str(key), str(cert)]
    took: list[float] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        took.append(float(process.stdout.readline()))
        yield took
        assert process.poll() is None, "an answer failed"
    finally:
        process.terminate()
        output, _ = process.communicate()
        took.extend(float(each) for each in output.splitlines())


def until(holds: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Wait until something holds; whether it did in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _allow_many_files() -> None:
    """The limit of many shells is 1024; that of the process is its own to raise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < NEEDED_FILES:
        assert hard == resource.RLIM_INFINITY or hard >= NEEDED_FILES, f"{hard} files are too few"
        resource.setrlimit(resource.RLIMIT_NOFILE, (NEEDED_FILES, hard))
