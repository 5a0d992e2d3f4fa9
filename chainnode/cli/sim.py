"""`chainnode sim run|replay`: the deterministic simulator."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from chainnode.cli.output import EXIT_REJECTED, reporting, say

app = typer.Typer(help="Simulate consensus under faults, every run reproducible from its seed.")


@app.command()
@reporting
def run(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 100,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    nodes: Annotated[int, typer.Option(min=1, max=31)] = 4,
    engine: Annotated[str, typer.Option(help="Consensus engine.")] = "tbft",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Run seeds and check agreement, validity, durability and liveness after every event."""
    from chainnode.testing import run_seeds

    report = run_seeds(first_seed=first_seed, seeds=seeds, nodes=nodes, engine=engine)
    if as_json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:<18} {value}")
    if report["failing"]:
        say(f"replay one with: chainnode sim replay {report['failing'][0]} --nodes {nodes}")
        sys.exit(EXIT_REJECTED)


@app.command()
@reporting
def replay(
    seed: Annotated[int, typer.Argument(min=0)],
    nodes: Annotated[int, typer.Option(min=1, max=31)] = 4,
    engine: Annotated[str, typer.Option()] = "tbft",
) -> None:
    """Run one seed again, exactly, and print its report."""
    from chainnode.testing import replay as replay_seed

    print(json.dumps(replay_seed(seed, nodes=nodes, engine=engine), default=str))
