"""`chainnode tx get`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network, with_client
from chainnode.cli.output import Format, reporting, show
from chainnode.cli.rendering import tx_fields
from chainnode.types.errors import ClientFault

app = typer.Typer(help="Transactions.")


@app.callback()
def transactions() -> None:
    """Read transactions."""


def parse_tx_id(text: str) -> bytes:
    """A tx id from its 64 hexadecimal digits.

    Raises:
        ClientFault: TX_ID_MALFORMED.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ClientFault(
            "TX_ID_MALFORMED",
            "A tx id is 64 hexadecimal digits.",
            subject=text[:80],
            fix="copy it from a receipt or from: chainnode block get HEIGHT",
        )
    return raw


@app.command()
@reporting
def get(
    tx_id: Annotated[str, typer.Argument(help="64 hexadecimal digits.")],
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Annotated[Format, typer.Option("-o")] = Format.TABLE,
) -> None:
    """Show one transaction and its receipt."""
    wanted = parse_tx_id(tx_id)
    show(tx_fields(with_client(network, member, lambda c: c.get_tx(wanted))), output)
