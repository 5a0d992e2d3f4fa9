"""Columns that are not in memory: reading ahead of the kernels against read loops."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from chainnode import _native as native
from chainnode.bench.frame import Figures
from chainnode.bench.he_seal import Exact

LIMBS: Final = 3
BLOCKS: Final = 13
COLUMNS: Final = 70
COLUMNS_QUICK: Final = 16
MODELS: Final = 8
READ_BYTES: Final = 4 << 20


def run(quick: bool, exact: Exact) -> tuple[Figures, list[str]]:
    """Milliseconds of a pass over evicted columns, which lie where the system keeps such files."""
    count, rounds = (COLUMNS_QUICK, 5) if quick else (COLUMNS, 9)
    public_key = native.HeSecretKey.generate("S").public_key()
    with tempfile.TemporaryDirectory(prefix="chainnode-he-", dir=disk()) as name:
        folder = Path(name)
        names = [f"c{i:02}" for i in range(count)]
        for column in names:
            slots = bytes(8 * 8192)
            [block] = native.he_encrypt_many("S", public_key, [slots], [os.urandom(32)], LIMBS)
            native.HeColumns.write(name, column, "S", LIMBS, [block] * BLOCKS)
        os.sync()
        return _measure(folder, names, rounds, exact)


def disk() -> str | None:
    """A folder on a disk: the default one for temporary files may lie in memory."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else None


def _measure(
    folder: Path, names: list[str], rounds: int, exact: Exact
) -> tuple[Figures, list[str]]:
    store = native.HeColumns.open(str(folder), "S")
    weights = [[3 * i + m for i in range(len(names))] for m in range(MODELS)]
    size_bytes = sum(path.stat().st_size for path in folder.glob("*.tiles"))

    def compute() -> object:
        return store.mac_scalar(names, weights, LIMBS, 0, BLOCKS)

    def read() -> None:
        buffer = bytearray(READ_BYTES)
        for path in sorted(folder.glob("*.tiles")):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    def cold(action: Callable[[], object]) -> tuple[float, object]:
        store.evict(names)
        return _seconds(action)

    def opened() -> None:
        native.HeColumns.open(str(folder), "S")

    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        warm, expected = _seconds(compute)
        pass_seconds, found = cold(compute)
        exact.value(found, expected, "a pass over columns on disk")
        ahead, _ = cold(lambda: store.preload(names, LIMBS))
        open_warm, _ = _seconds(opened)
        for key, value in {
            "warm": warm,
            "cold": pass_seconds,
            "ahead": ahead,
            "loop": cold(read)[0],
            "faults": cold(lambda: store.read_all(names, LIMBS))[0],
            "open_cold": cold(opened)[0],
            "open_warm": open_warm,
        }.items():
            times.setdefault(key, []).append(value)
    return _figures({key: statistics.median(values) for key, values in times.items()}, size_bytes)


def _seconds(action: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def _figures(seconds: dict[str, float], size_bytes: int) -> tuple[Figures, list[str]]:
    warm, cold, ahead = seconds["warm"], seconds["cold"], seconds["ahead"]
    idle = os.getloadavg()[0] <= (os.cpu_count() or 1)
    figures: Figures = {
        "cold_ms": 1e3 * cold,
        "warm_ms": 1e3 * warm,
        "cold_read_ms": 1e3 * ahead,
        "cold_read_loop_ms": 1e3 * seconds["loop"],
        "cold_page_fault_ms": 1e3 * seconds["faults"],
        "cold_open_ms": 1e3 * seconds["open_cold"],
        "warm_open_ms": 1e3 * seconds["open_warm"],
        "cold_bytes": size_bytes,
        "cold_gb_per_s": size_bytes / cold / 1e9,
        "cold_overlap": (ahead + warm - cold) / min(ahead, warm) if idle else None,
    }
    notes = [
        f"cold_*: {size_bytes / 1e6:.0f} MB dropped from the page cache (madvise and posix_fadvise "
        f"DONTNEED), {MODELS} models a pass on one thread and its reader; cold_read is the reader "
        "alone, cold_read_loop read() calls of 4 MiB, cold_page_fault a loop over the mapping "
        "without a reader; cold_overlap 1 is the longer of reading and computing, 0 their sum; "
        "cold_open reads and compares the Merkle roots; wall time, so a busy machine shows"
    ]
    if not idle:
        notes.append("cold_overlap: null, others keep the processors busy: two threads take turns")
    return figures, notes
