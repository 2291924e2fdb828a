"""The real server's agent: VIPs on lo, and the ARP sysctls."""

import os

from agent_common.tls_version import leave_tls13_alone

leave_tls13_alone(os.environ)  # gRPC reads the environment when it is imported, which the modules here do
