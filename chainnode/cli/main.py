"""Entry point: assembles the nouns."""

from __future__ import annotations

import typer

from chainnode.cli import (
    arch,
    bench,
    block,
    chain,
    contract,
    he,
    node,
    paillier,
    sim,
    testnet,
    trace,
    tx,
)

app = typer.Typer(
    name="chainnode",
    help="A permissioned blockchain node that scores small businesses on encrypted data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(testnet.app, name="testnet")
app.add_typer(node.app, name="node")
app.add_typer(contract.app, name="contract")
app.add_typer(tx.app, name="tx")
app.add_typer(block.app, name="block")
app.add_typer(chain.app, name="chain")
app.add_typer(trace.app, name="trace")
app.add_typer(arch.app, name="arch")
app.add_typer(he.app, name="he")
app.add_typer(paillier.app, name="paillier")
app.add_typer(sim.app, name="sim")
app.command("bench")(bench.bench)


def main() -> None:
    """Run the command line; exits with the codes listed in the CLI reference."""
    app()
