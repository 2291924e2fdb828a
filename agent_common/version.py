"""The version of lvs-agents, in a file: to ask importlib.metadata takes longer than all the rest of --version."""

VERSION = "0.1.0"
