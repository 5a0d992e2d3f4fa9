"""`chainnode bench NAME`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from chainnode.bench import frame
from chainnode.cli.output import reporting


@reporting
def bench(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(frame.BENCHES)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quick: Annotated[bool, typer.Option(help="End within 45 s on two cores.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for curves as SVG, of those that have any.")
    ] = None,
) -> None:
    """Measure one part and print its figures; fails on a mismatch only, never on a figure."""
    result = frame.run(name, quick=quick)
    if as_json:
        print(json.dumps(result))
    else:
        frame.print_table(result)
    if plot is not None:
        from chainnode.bench import plots

        for path in plots.draw(name, plot):
            print(f"plot: {path}", file=sys.stderr)
    frame.refuse_mismatches(result)
