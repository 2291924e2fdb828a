"""The director's agent: IPVS and the VIPs of a director."""

import os

from agent_common.tls_version import leave_tls13_alone

leave_tls13_alone(os.environ)  # gRPC reads the environment when it is imported, which the modules here do
