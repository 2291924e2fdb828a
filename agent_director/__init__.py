"""The director's agent: IPVS and the VIPs of a director."""

import os

from agent_common.tls_version import leave_tls13_alone

# gRPC reads the environment when it is imported, which the modules here do.
leave_tls13_alone(os.environ)
# What a check meets is told once, as its answer; gRPC would say it in words of its own, every few seconds.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
