"""`chainnode trace record` and `replay`: a block's costs and accesses, and what they allow."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from chainnode import _native
from chainnode.bench.replay import BANDS, read_trace, replay
from chainnode.cli.context import DEFAULT_NETWORK, Network, description
from chainnode.cli.output import Format, reporting, say, show_rows
from chainnode.node.recording import record_block
from chainnode.types.errors import ClientFault

app = typer.Typer(help="Execution traces: record a block, replay it on virtual workers.")
RUNS = 5


@app.command()
@reporting
def record(
    height: Annotated[int, typer.Argument(min=1, help="A committed block.")],
    to: Annotated[Path | None, typer.Option(help="File; standard output without it.")] = None,
    network: Network = Path(DEFAULT_NETWORK),
    data_dir: Annotated[
        Path | None, typer.Option(help="A node's data folder; the network's first node's.")
    ] = None,
    genesis: Annotated[Path | None, typer.Option(help="Genesis file; the network's.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of each transaction the quickest.")] = RUNS,
) -> None:
    """Execute the chain again up to a block and write what its transactions cost and touch.

    Needs the files of one node, which may be running; nothing of them is changed. Takes as long as
    executing the chain.
    """
    if data_dir is None or genesis is None:
        described = description(network)
        data_dir = data_dir or Path(described["nodes"][0]["data_dir"])
        genesis = genesis or Path(described["genesis"])
    trace = record_block(data_dir, genesis, height, runs)
    text = commented(trace, height, runs)
    if to is None:
        sys.stdout.write(text)
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClientFault(
            "TRACE_NOT_WRITTEN",
            f"The file cannot be written: {error.strerror}.",
            subject=str(to),
            fix="name another with --to",
        ) from None
    say(f"{len(trace)} transactions; next: chainnode trace replay {to}")


def commented(trace: _native.Trace, height: int, runs: int) -> str:
    """The trace's text with a line that says where its figures come from."""
    header, _, lines = trace.encode().partition("\n")
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{header}\n# block {height}, quickest of {runs} runs, {machine}\n{lines}"


@app.command("replay")
@reporting
def replayed(
    file: Annotated[Path, typer.Argument(help="A trace.")],
    workers: Annotated[int, typer.Option(min=1, max=1_024, help="Virtual workers.")] = 96,
    band: Annotated[
        str, typer.Option(help=f"Costs: {', '.join(BANDS)}; all of them without it.")
    ] = "",
    signature_us: Annotated[
        float, typer.Option(min=0, help="A signature check before each transaction.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Run a trace on virtual workers with the executor's own scheduler, in virtual time.

    Prints the speed-up over plain serial with its sensitivity bands, what bounds it (T1 over
    T-infinity) and how often a transaction was executed.
    """
    if band and band not in BANDS:
        raise ClientFault(
            "BAND_UNKNOWN", "There is no such band.", subject=band, fix=f"one of {', '.join(BANDS)}"
        )
    trace = read_trace(file)
    if signature_us:
        trace = trace.with_verify(round(1_000 * signature_us))
    result = replay_fields(trace, workers, (band,) if band else BANDS)
    if as_json:
        print(json.dumps(result))
        return
    runs = result.pop("bands")
    for name, value in result.items():
        print(f"{name:<20}  {value}")
    show_rows(runs, Format.TABLE)


def replay_fields(trace: _native.Trace, workers: int, bands: tuple[str, ...]) -> dict[str, Any]:
    """What the command prints."""
    work_us, path_us = trace.work_ns / 1_000, trace.critical_path_ns / 1_000
    rows = []
    for band in bands:
        found = replay(trace, workers, band)
        rows.append(
            {
                "band": band,
                "speedup": round(found.speedup, 2),
                "makespan_us": round(found.makespan_us, 1),
                "executions_per_tx": round(found.executions_per_tx, 3),
                "blocked_per_tx": round(found.blocked_per_tx, 3),
            }
        )
    return {
        "transactions": len(trace),
        "workers": workers,
        "work_us": round(work_us, 1),
        "critical_path_us": round(path_us, 1),
        "parallelism": round(work_us / path_us, 2) if path_us else None,
        "gas_used": trace.gas_used,
        "bands": rows,
    }
