"""lvs zero: counters begin again."""

from __future__ import annotations

import typer

from agent_common.virtual_server import parse_key
from cli import options


def zero(
    context: typer.Context,
    key: options.OnlyKey = None,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Set the counters of every director, or of one virtual server and its destinations, to 0; rates go on."""
    server = None if key is None else parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from lvsagent.v1 import ipvs_service_pb2

    from agent_common import wire
    from cli.show import run_reading

    request = ipvs_service_pb2.ZeroCountersRequest(key=None if server is None else wire.pack_key(server))
    what = "all counters" if server is None else f"the counters of {server}"
    raise typer.Exit(
        run_reading(
            site,
            terminal,
            site.director_names(),
            lambda client: client.ask(client.ipvs.ZeroCounters, request),
            lambda agent, answer: [f"{what} are 0"],
        )
    )
