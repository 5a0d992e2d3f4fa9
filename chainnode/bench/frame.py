"""What every benchmark shares: the machine's description, the JSON envelope, the table."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from chainnode import _native
from chainnode.types.errors import ClientFault, InternalError

VERSION = 1
SPIN_SCALING_MIN = 1.95
SPIN_SCALING_MAX = 2.1
Figures = dict[str, float | int | str | bool | None]
Measure = Callable[[bool], tuple[Figures, list[str]]]
"""Figures by the keys of BENCHMARKS.md (None where the machine cannot give one honestly), notes."""

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "verify": {"payload_size_bytes": 256, "block_transactions": 1_000},
    "vm": {"contract": "asset", "method": "transfer", "threads": 1},
    "executor": {
        "block_transactions": 10_000,
        "gate_block_transactions": 1_000,
        "baseline": "plain serial, same run",
    },
    "sim96": {"workers": 96, "block_transactions": 10_000, "baseline": "plain serial"},
    "he": {"rows": 8_192, "columns": 70, "threads": 1},
    "load": {"nodes": 4, "engine": "tbft", "contract": "asset", "method": "transfer"},
}


BENCHES: Mapping[str, str] = {
    "verify": "chainnode.bench.verify",
    "vm": "chainnode.bench.vm",
    "executor": "chainnode.bench.executor",
    "sim96": "chainnode.bench.sim96",
    "he": "chainnode.bench.he",
    "load": "chainnode.bench.load",
}


def run(name: str, *, quick: bool) -> dict[str, Any]:
    """Run one benchmark and return its JSON object.

    Raises:
        ClientFault: BENCH_UNKNOWN.
    """
    if name not in BENCHES:
        raise ClientFault(
            "BENCH_UNKNOWN",
            f"There is no benchmark called {name}.",
            fix=f"choose one of {', '.join(sorted(BENCHES))}",
        )
    measure: Measure = import_module(BENCHES[name]).run
    figures, notes = measure(quick)
    return {
        "bench": name,
        "version": VERSION,
        "machine": machine(),
        "parameters": {"quick": quick, **PARAMETERS.get(name, {})},
        "figures": figures,
        "notes": notes,
    }


def machine() -> dict[str, Any]:
    """The machine that the figures belong to."""
    pages, page_size_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "spin_scaling_2t": spin_scaling(),
        "ram_gib": round(pages * page_size_bytes / 2**30, 1),
        "kernels": _native.CPU_PATH,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name as the kernel gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def spin_scaling() -> float | None:
    """How much more signature checking two threads do than one; None on a single core.

    The native check releases the interpreter lock, so this is what the machine can give.
    """
    if (os.cpu_count() or 1) < 2:
        return None
    keys, message, signatures = [bytes(32)] * 256, [b"spin"] * 256, [bytes(64)] * 256

    def spin() -> None:
        _native.verify_ed25519_batch(keys, message, signatures)

    def timed(threads: int) -> float:
        workers = [threading.Thread(target=spin) for _ in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - start

    timed(1)
    ratios = sorted(2 * timed(1) / timed(2) for _ in range(5))
    return round(ratios[2], 2)


def two_threads_doubt(spin: float | None) -> str:
    """Why two threads say nothing on this machine; empty when they do.

    Args:
        spin: how much more a kernel that only computes does on two threads.
    """
    if spin is None:
        return "one core"
    if spin < SPIN_SCALING_MIN:
        return f"a spin kernel scales {spin:.2f} on 2 threads, below {SPIN_SCALING_MIN}"
    if spin > SPIN_SCALING_MAX:
        return f"a spin kernel scales {spin:.2f} on 2 threads: other work disturbs the clock"
    return ""


def print_table(result: Mapping[str, Any]) -> None:
    """The figures for people, on standard output; notes on standard error."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"chainnode bench {result['bench']}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for key, value in result["figures"].items():
        table.add_row(key, _shown(value))
    Console().print(table)
    told = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    print(f"machine: {told}", file=sys.stderr)
    for note in result["notes"]:
        print(f"note: {note}", file=sys.stderr)


def refuse_mismatches(result: Mapping[str, Any]) -> None:
    """Make a run fail, after its figures were shown, in which results differed from the oracle's.

    Raises:
        InternalError: BENCH_MISMATCH when a figure named `*_mismatches` is not 0.
    """
    for key, value in result["figures"].items():
        if key.endswith("_mismatches") and value:
            raise InternalError(
                "BENCH_MISMATCH",
                f"{value} results differ from what they should be: see the notes of the run.",
                subject=f"{result['bench']}: {key}",
            )


def _shown(value: object) -> str:
    if value is None:
        return "-"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,.4g}" if number else str(value)
