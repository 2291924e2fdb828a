"""A gRPC server with nothing but the health service of grpcio-health-checking.

    python lab/servers/health_program.py ENDPOINT STATUSES [CERTIFICATE KEY]

STATUSES is a file with lines as `NOT_SERVING name.of.Service`; the name may be empty. SIGHUP makes it read that again.
"""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main(where: str, statuses: str, *tls: str) -> None:
    """Serve until SIGTERM."""
    awaited = {signal.SIGHUP, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)  # before there are other threads, which then block them too
    server = grpc.server(ThreadPoolExecutor(8))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    read(servicer, Path(statuses))
    if tls:
        server.add_secure_port(where, credentials(*tls))
    else:
        server.add_insecure_port(where)
    server.start()
    while signal.sigwait(awaited) == signal.SIGHUP:
        read(servicer, Path(statuses))
        print("statuses are set", flush=True)
    server.stop(None).wait()


def read(servicer: health.HealthServicer, statuses: Path) -> None:
    for line in statuses.read_text().splitlines():
        status, _, service = line.partition(" ")
        servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))


def credentials(certificate: str, key: str) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(Path(key).read_bytes(), Path(certificate).read_bytes())])


if __name__ == "__main__":
    main(*sys.argv[1:])
