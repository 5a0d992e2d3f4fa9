"""What a table's owner states about who may ask what: `grant`, `set-consent`, `set-policy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network
from chainnode.cli.he_options import Table, ask_bank
from chainnode.cli.output import reporting
from chainnode.he.planner.policy import OUTPUTS_ALLOWED, OwnerRules
from chainnode.sdk.access import SCORING
from chainnode.sdk.source_table import read_source

app = typer.Typer()

Bank = Annotated[str, typer.Option("--bank", help="Organisation that may ask.")]


@app.command()
@reporting
def grant(
    table: Table,
    bank: Bank,
    budget: Annotated[int, typer.Option("--budget", min=0, help="How many queries in all.")],
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """Allow a bank that many queries on a table; every owner must, and the least counts."""
    ask_bank(network, member, lambda client: client.grant(table, bank, budget))
    print(f"{bank} may ask {budget} queries of {table}")


@app.command("set-consent")
@reporting
def set_consent(
    source: Annotated[Path, typer.Argument(help="CSV or Parquet file of those who consent.")],
    id_column: Annotated[str, typer.Option("--id-column", help="Column of the enterprise ids.")],
    table: Table,
    bank: Bank,
    purpose: Annotated[str, typer.Option("--purpose", help="What they consent to.")] = SCORING,
    until_height: Annotated[
        int, typer.Option("--until-height", min=0, help="Last block it holds in; 0: no end.")
    ] = 0,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """State which enterprises let a bank see their scores; replaces what was stated before."""
    ids = [str(cell) for cell in read_source(source).column(id_column)]
    ask_bank(
        network,
        member,
        lambda client: client.set_consent(table, bank, ids, purpose, until_height),
    )
    print(f"{len(ids)} enterprises of {table} consent to {bank}: {purpose}")


@app.command("set-policy")
@reporting
def set_policy(
    table: Table,
    bank: Annotated[
        str, typer.Option("--bank", help="Whom it is for; not given: whoever has none of its own.")
    ] = "",
    denied: Annotated[
        list[str], typer.Option("--deny", help="A column that no aggregate may use.")
    ] = [],  # noqa: B006
    scores: Annotated[bool, typer.Option(help="Whether scores may be asked for.")] = True,
    outputs_max: Annotated[
        int, typer.Option("--outputs-max", min=0, help="Numbers a query may have opened.")
    ] = OUTPUTS_ALLOWED,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
) -> None:
    """State what this owner allows; every owner's policy counts, so the strictest does."""
    owner = member.partition("/")[0]
    rules = OwnerRules(owner, tuple(denied), scores, outputs_max)
    ask_bank(network, member, lambda client: client.set_policy(table, rules, bank))
    denies = ", ".join(denied) or "no column"
    print(
        f"{owner} denies {denies} of {table} to {bank or 'every bank'}, "
        f"{'allows' if scores else 'forbids'} scores, and {outputs_max} numbers a query"
    )
