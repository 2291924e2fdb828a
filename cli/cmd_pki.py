"""lvs pki: certificates for a site that has no CA of its own. No agent is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_common.identity import check_domain
from cli import options
from cli.pki_request import DEFAULT_DOMAIN, MAX_DAYS, parse_agent, parse_chosen, parse_days, parse_user
from cli.settings import load_settings
from cli.terminal import Terminal

app = typer.Typer(help="Certificates, for a site that has no CA.", no_args_is_help=True, rich_markup_mode=None)
issue = typer.Typer(help="Issue a certificate.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(issue, name="issue")

Pki = Annotated[str | None, typer.Option("--pki", metavar="DIR", help="Where the CA is (/etc/lvs/pki).")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: 1 to 64 letters, digits, '.', '-', '_'.")]
Days = Annotated[int, typer.Option("--days", metavar="N", help=f"How long it is valid, 1 to {MAX_DAYS}.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@app.command()
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it is missing, for its owner alone.")],
    domain: Annotated[
        str, typer.Option(metavar="DOMAIN", help="The site's trust domain, part of every identity.")
    ] = DEFAULT_DOMAIN,
    days: Days = 3650,
    force: Force = False,
    output: options.Output = None,
) -> None:
    """Make a CA. Its key, ca.key, is all that it takes to be let in as anybody: it stays off the hosts."""
    check_domain(domain, "domain")
    valid = parse_days(days)
    terminal, _ = _settings(context, None, output)
    from cli import pki_commands

    raise typer.Exit(pki_commands.init(terminal, directory, domain, valid, force=force))


@issue.command("agent")
def issue_agent(
    context: typer.Context,
    name: Name,
    address: Annotated[
        list[str],
        typer.Option("--address", metavar="ADDRESS|HOST", help="At which lvs dials it, without port; repeatable."),
    ],
    role: Annotated[str, typer.Option(metavar="director|realserver", help="Which agent it is.")] = "realserver",
    days: Days = 365,
    pki: Pki = None,
    force: Force = False,
    output: options.Output = None,
) -> None:
    """Issue an agent's certificate: DIR/ROLE-NAME has all that its host gets."""
    holder, valid = parse_agent(name, address, role), parse_days(days)
    terminal, path = _settings(context, pki, output)
    from cli import pki_commands

    raise typer.Exit(pki_commands.issue(terminal, path, holder, valid, force=force))


@issue.command("user")
def issue_user(
    context: typer.Context,
    name: Name,
    role: Annotated[str, typer.Option(metavar="viewer|operator|admin", help="What that user may do.")],
    days: Days = 365,
    pki: Pki = None,
    force: Force = False,
    output: options.Output = None,
) -> None:
    """Issue a user's certificate: DIR/ROLE-NAME has all that the user gets."""
    holder, valid = parse_user(name, role), parse_days(days)
    terminal, path = _settings(context, pki, output)
    from cli import pki_commands

    raise typer.Exit(pki_commands.issue(terminal, path, holder, valid, force=force))


@app.command()
def renew(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE/NAME]...", help="Which; NAME alone if only one has it.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    within: Annotated[
        int | None, typer.Option(metavar="DAYS", help="Without names: those that expire within so many days (30).")
    ] = None,
    days: Annotated[
        int | None, typer.Option(metavar="N", help="How long they are valid; without it, each as long as before.")
    ] = None,
    pki: Pki = None,
    output: options.Output = None,
) -> None:
    """Renew certificates: a new key, the same identity and addresses. Without names those that expire soon."""
    chosen = parse_chosen(names or (), within, everything=everything)
    valid = None if days is None else parse_days(days)
    terminal, path = _settings(context, pki, output)
    from cli import pki_commands

    raise typer.Exit(pki_commands.renew(terminal, path, chosen, valid))


@app.command()
def show(
    context: typer.Context,
    place: Annotated[
        Path | None, typer.Argument(metavar="[FILE|DIR]", help="A certificate (PEM) of any CA, or another PKI.")
    ] = None,
    pki: Pki = None,
    output: options.Output = None,
) -> None:
    """Show the CA and what it has issued, superseded certificates too; or whose a certificate is to an agent."""
    terminal, path = _settings(context, pki, output)
    from cli import pki_commands

    raise typer.Exit(pki_commands.show(terminal, place, path))


def _settings(context: typer.Context, pki: str | None, output: str | None) -> tuple[Terminal, Path]:
    """Return the terminal, and where the PKI is; options after the command win over those before it."""
    given: options.Global = context.obj
    flags = {**given.flags, "pki": pki}
    if output is not None:
        flags["output"] = output
    values = load_settings(flags, given.config)
    return Terminal(str(values["output"]), debug=given.debug), Path(str(values["pki"]))
