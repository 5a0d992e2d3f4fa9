"""What every benchmark shares: the machine's description, the JSON envelope, the table."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from chainnode import _native
from chainnode.types.errors import ClientFault, InternalError

VERSION = 1
# What a thread does beside others, as a share of what it does alone. A loss is half of what the
# simulator may err: 5 % at two threads, 10 % at more.
SPIN_SHARE_MIN_PAIR = 0.975
SPIN_SHARE_MIN = 0.95
SPIN_SHARE_MAX = 1.05
SPIN_ITERATIONS = 100_000
SPIN_ROUNDS = 5
Figures = dict[str, float | int | str | bool | None]
Spins = Mapping[int, float | None]
"""`spin_scaling` by the number of threads; None where the machine has fewer cores."""
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


def spin_scaling(threads: int = 2) -> float | None:
    """How much more a kernel that only computes does on so many threads than on one.

    This is what the machine can give. None where it has fewer cores.
    """
    if (os.cpu_count() or 1) < threads:
        return None
    spun_s(1)
    return round(median(scaling_once(threads) for _ in range(SPIN_ROUNDS)), 2)


def spin_scalings(threads: Iterable[int]) -> Spins:
    """`spin_scaling` of each number of threads."""
    return {count: spin_scaling(count) for count in threads}


def scaling_once(threads: int) -> float:
    """One reading of `spin_scaling`, on any machine."""
    return threads * spun_s(1) / spun_s(threads)


def spun_s(threads: int) -> float:
    """Seconds until so many threads, which start together, each spun once."""
    gate = threading.Barrier(threads + 1)

    def spin() -> None:
        gate.wait()
        # Releases the interpreter lock and touches no memory.
        hashlib.pbkdf2_hmac("sha256", b"spin", b"spin", SPIN_ITERATIONS)

    workers = [threading.Thread(target=spin) for _ in range(threads)]
    for worker in workers:
        worker.start()
    gate.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def threads_doubt(threads: int, spin: float | None) -> str:
    """Why so many threads say nothing on this machine; empty when they do.

    Args:
        spin: `spin_scaling` of them.
    """
    if threads == 1:
        return ""
    if spin is None:
        return f"this machine has {os.cpu_count() or 1} cores"
    least = threads * (SPIN_SHARE_MIN_PAIR if threads == 2 else SPIN_SHARE_MIN)
    if spin < least:
        return f"a spin kernel scales {spin:.2f} on {threads} threads, below {least:g}"
    if spin > threads * SPIN_SHARE_MAX:
        return (
            f"a spin kernel scales {spin:.2f} on {threads} threads: other work disturbs the clock"
        )
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
