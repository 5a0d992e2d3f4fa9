"""The parallel executor on real threads against plain serial execution of the same blocks."""

from __future__ import annotations

from dataclasses import replace
from statistics import geometric_mean, median

from chainnode import _native
from chainnode.bench import asset_block, frame, workloads
from chainnode.bench.frame import Figures, Spins
from chainnode.bench.replay import replay
from chainnode.bench.workloads import Workload
from chainnode.types.errors import InternalError

GATE_REPEATS = 9
ASSET_ACCOUNTS = 20_000
ASSET_BLOCK_TRANSACTIONS = 2_000
GATE_BLOCK_TRANSACTIONS = 1_000
# Blocks on more threads than two, where there are so many cores.
THREADS = (4, 8, 16)
MANY_ACCOUNTS = asset_block.ACCOUNTS
LOADS: dict[str, Workload] = {
    "": workloads.UNIFORM_20,
    "_uniform100": workloads.UNIFORM_100,
    "_zipf80": workloads.ZIPF_80,
    "_zipf99_delta": workloads.ZIPF_99_DELTA,
}
# What the parallel engine is built for, and the gate is asked about.
WORKERS = 96
ORACLE_THREADS = (1, 2, 4, 8, 96)
ORACLE_BLOCKS_QUICK = 100
ORACLE_BLOCKS_FULL = 10_000
MIXES: dict[str, Workload] = {
    "uniform 3 us": workloads.UNIFORM_3,
    "uniform 20 us": workloads.UNIFORM_20,
    "zipf 0.8": workloads.ZIPF_80,
    "zipf 0.99": workloads.ZIPF_99,
    "zipf 0.99, 95 % updates": replace(workloads.ZIPF_99, updates=0.95),
    "zipf 0.99, deltas": workloads.ZIPF_99_DELTA,
    "zipf 0.99, 3 us": replace(workloads.ZIPF_99, cost_us=3),
    "ten accounts": Workload(20, accounts=10, updates=1.0),
    "ten accounts, 3 us": Workload(3, accounts=10, updates=1.0),
    "one counter, exact": workloads.COUNTER_EXACT,
    "one counter, delta": workloads.COUNTER_DELTA,
}


def run(quick: bool) -> tuple[Figures, list[str]]:
    """Measure on as many threads as there are cores, every ratio inside one interleaved run.

    Args:
        quick: fewer repetitions and random blocks.

    Raises:
        InternalError: `BENCH_MISMATCH`, when an engine gives another result than serial.
    """
    spin = frame.spin_scaling()
    doubt = frame.threads_doubt(2, spin)
    repeats = 5 if quick else 15
    uniform = workloads.UNIFORM_20
    engine = _native.predict_engine(uniform.trace(), WORKERS)
    one = {name: speedups(uniform, name, 1, repeats) for name in {engine, "dag", "stm"}}
    figures: Figures = {
        "one_thread_ratio": round(median(one[engine]), 3),
        "one_thread_ratio_dag": round(median(one["dag"]), 3),
        "one_thread_ratio_stm": round(median(one["stm"]), 3),
        "two_thread_speedup": None,
        "worst_gate_ratio": None,
        "mean_gate_ratio": None,
        "asset_block_two_thread_speedup": None,
    }
    # Run in any case: the roots are compared.
    asset = asset_block.compared(
        asset_block.chain(ASSET_ACCOUNTS), 2, ASSET_BLOCK_TRANSACTIONS, repeats
    )
    notes = [
        f"one_thread_ratio, two_thread_speedup: {uniform.describe()}; `{engine}`, which the gate "
        f"takes for this block on many threads, median of {repeats}; one_thread_ratio_dag: waiting "
        "for hinted producers; one_thread_ratio_stm: hints reserve slots, nobody waits",
        f"asset_block_two_thread_speedup: whole blocks of {ASSET_BLOCK_TRANSACTIONS:,} transfers "
        f"of the shipped asset contract over {ASSET_ACCOUNTS:,} accounts, decoding, receipts and "
        "state root included, signatures known; receipts and state equal to serial in every block",
    ]
    if not doubt:
        figures["two_thread_speedup"] = round(median(speedups(uniform, engine, 2, repeats)), 3)
        figures["asset_block_two_thread_speedup"] = round(median(asset), 3)
        gate, told = gated()
        figures |= gate
        notes += told
    else:
        for key in [key for key, value in figures.items() if value is None]:
            notes.append(f"{key} is null: inconclusive, {doubt}")
    more, told = many_threads(frame.spin_scalings(THREADS), repeats)
    figures |= more
    notes += told
    figures |= oracle(ORACLE_BLOCKS_QUICK if quick else ORACLE_BLOCKS_FULL)
    notes.append(
        f"oracle_blocks: random blocks (conflicts, deltas, ranges, failures, wrong hints) on "
        f"{', '.join(map(str, ORACLE_THREADS))} threads, each equal to the plain serial engine"
    )
    return figures, notes


def speedups(load: Workload, engine: str, threads: int, repeats: int) -> list[float]:
    """Serial time over an engine's, for each interleaved pair of runs."""
    try:
        serial, other = _native.bench_blocks(
            load.trace(), ["serial", engine], threads=threads, repeats=repeats
        )
    except RuntimeError as fault:
        raise InternalError("BENCH_MISMATCH", str(fault), subject=load.describe()) from None
    return [a / b for a, b in zip(serial.times_ns, other.times_ns, strict=True)]


def many_threads(spins: Spins, repeats: int) -> tuple[Figures, list[str]]:
    """The gate on 4, 8 and 16 threads; null with a note where there are fewer cores."""
    figures: Figures = {}
    notes = []
    made = None
    for threads, spin in spins.items():
        doubt = frame.threads_doubt(threads, spin)
        figures[f"spin_scaling_{threads}t"] = spin
        if spin is None:
            notes.append(f"spin_scaling_{threads}t is null: {doubt}")
        for suffix in (*LOADS, "_asset_block"):
            key = f"speedup_{threads}t{suffix}"
            figures[key] = None
            if spin is None:
                notes.append(f"{key} is null: {doubt}")
                continue
            if suffix in LOADS:
                load = LOADS[suffix]
                found = median(speedups(load, "gate", threads, repeats))
                engine = _native.predict_engine(load.trace(), threads)
                simulated = replay(load.trace(), threads).speedup
                told = f"`{engine}`, simulated {simulated:.2f}; {load.describe()}"
            else:
                made = made or asset_block.chain(MANY_ACCOUNTS)
                count = workloads.BLOCK_TRANSACTIONS
                found = median(asset_block.compared(made, threads, count, repeats))
                told = (
                    f"whole blocks of {count:,} transfers over {MANY_ACCOUNTS:,} accounts, "
                    "signatures known; receipts and state equal to serial in every block"
                )
            if doubt:
                notes.append(f"{key} is null: inconclusive, {doubt}")
            else:
                figures[key] = round(found, 3)
            notes.append(
                f"{key}: {found:.3f}, median of {repeats}, a spin kernel {spin:.2f}; {told}"
            )
    return figures, notes


def gated() -> tuple[Figures, list[str]]:
    """The gate on every contention level and mix, two threads."""
    ratios: dict[str, float] = {}
    told = []
    for name, load in MIXES.items():
        block = replace(load, transactions=GATE_BLOCK_TRANSACTIONS)
        ratios[name] = median(speedups(block, "gate", 2, GATE_REPEATS))
        told.append(f"gate, {name}: {ratios[name]:.2f} ({block.describe()})")
    figures: Figures = {
        "worst_gate_ratio": round(min(ratios.values()), 3),
        "mean_gate_ratio": round(geometric_mean(ratios.values()), 3),
        "worst_gate_mix": min(ratios, key=lambda name: ratios[name]),
    }
    return figures, told


def oracle(blocks: int) -> Figures:
    """Random blocks on every number of threads against the serial engine."""
    share = blocks // len(ORACLE_THREADS)
    differing: list[str] = []
    for place, threads in enumerate(ORACLE_THREADS):
        differing += _native.compare_random_blocks(1 + place * share, share, threads)
    refuse(differing)
    return {"oracle_blocks": share * len(ORACLE_THREADS), "oracle_mismatches": len(differing)}


def refuse(differing: list[str]) -> None:
    """End the run when a block was not executed as serially.

    Raises:
        InternalError: `BENCH_MISMATCH`.
    """
    if differing:
        raise InternalError(
            "BENCH_MISMATCH",
            f"{len(differing)} random blocks differ from serial execution: {differing[0]}",
            subject="executor",
            fix="do not run a node on this machine; report it",
        )
