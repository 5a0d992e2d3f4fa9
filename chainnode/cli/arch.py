"""`chainnode arch explain`: why this block shape now, and what would change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.context import DEFAULT_MEMBER, DEFAULT_NETWORK, Member, Network, with_client
from chainnode.cli.output import Format, reporting, show

app = typer.Typer(help="The adaptive architecture selector.")


@app.callback()
def architecture() -> None:
    """Read the selector's decisions."""


@app.command()
@reporting
def explain(
    height: Annotated[int, typer.Argument(min=0, help="0: the next block.")] = 0,
    network: Network = Path(DEFAULT_NETWORK),
    member: Member = DEFAULT_MEMBER,
    output: Annotated[Format, typer.Option("-o")] = Format.TABLE,
) -> None:
    """Print the decision for a height, its inputs and what would change it."""
    answer = with_client(network, member, lambda c: c.explain_architecture(height))
    decision = answer.decision
    fields = {
        "architecture": decision.id,
        "policy_version": decision.policy_version,
        "block_tx_cap": decision.block_tx_cap,
        "block_interval_ms": decision.block_interval_ms,
        "inputs_digest": decision.inputs_digest,
        **json.loads(answer.explanation_json or "{}"),
    }
    show(fields, output)
