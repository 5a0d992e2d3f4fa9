"""`chainnode chain info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network, with_client
from chainnode.cli.output import Format, reporting, show

app = typer.Typer(help="The chain as a whole.")


@app.callback()
def chain() -> None:
    """Read chain facts."""


@app.command()
@reporting
def info(
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Annotated[Format, typer.Option("-o")] = Format.TABLE,
) -> None:
    """Height, executed height, peers and the pool, as one node sees them."""
    status = with_client(network, member, lambda c: c.status())
    fields = {
        "chain_id": status.chain_id,
        "node": status.node,
        "height": status.height,
        "executed_height": status.executed_height,
        "round": status.round,
        "pool_transactions": status.pool_transactions,
        "peers_connected": list(status.peers_connected),
        "block_tx_cap": status.architecture.block_tx_cap,
        "block_interval_ms": status.architecture.block_interval_ms,
        "genesis_hash": status.genesis_hash,
        "version": status.version,
    }
    show(fields, output)
