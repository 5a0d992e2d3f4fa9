"""`chainnode block get`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network, with_client
from chainnode.cli.output import Format, reporting, show
from chainnode.cli.rendering import block_fields

app = typer.Typer(help="Blocks.")


@app.callback()
def blocks() -> None:
    """Read blocks."""


@app.command()
@reporting
def get(
    height: Annotated[int, typer.Argument(min=0, help="0 for the latest.")] = 0,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Annotated[Format, typer.Option("-o")] = Format.TABLE,
) -> None:
    """Show one block: header, certificate, transactions and their outcomes."""
    show(block_fields(with_client(network, member, lambda c: c.get_block(height))), output)
