"""`chainnode node start`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.output import reporting

app = typer.Typer(help="One node on this machine.")


@app.callback()
def node() -> None:
    """Run a node."""


@app.command()
@reporting
def start(
    config: Annotated[Path, typer.Option("--config", help="The node's TOML file.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Keep the data here, not where the file says.")
    ] = None,
) -> None:
    """Run a node in the foreground until SIGTERM."""
    from chainnode.node.main import run

    run(config, data_dir)
