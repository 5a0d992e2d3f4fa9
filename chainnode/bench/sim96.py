"""The executor on 96 virtual workers: the scheduler's own code in virtual time.

How a figure comes about, what its band means and what would break it:
docs/explanation/ninety-six-workers.md.
"""

from __future__ import annotations

import math
import os
import random
from functools import partial
from statistics import median

from chainnode import _native
from chainnode.bench import (
    ablation,
    asset_block,
    block_building,
    frame,
    vm,
    whole_block,
    workloads,
)
from chainnode.bench.frame import Figures, Spins
from chainnode.bench.replay import replay
from chainnode.bench.verify import make_block, timed
from chainnode.bench.workloads import BLOCK_TRANSACTIONS, Workload
from chainnode.contract.compiler import compile_path
from chainnode.contract.testing import member
from chainnode.types.errors import InternalError

WORKERS = 96
SERIAL_SPREAD_MAX = 0.05
RECORDED_RUNS = 5
SPAWN_US = 100.0
# Signatures of one worker's batch.
SHARE = math.ceil(BLOCK_TRANSACTIONS / WORKERS)
# Costs that need more cores than one to be measured.
ASSUMED = ("line_ns", "wake_ns", "inflation")
# Real runs that the simulator is compared with, where there are so many cores.
THREADS = (1, 2, 4, 8, 16)
VALIDATED = {"": workloads.UNIFORM_20, "_3us": workloads.UNIFORM_3}
# Microseconds a transaction, threads, and the published speed-up: pevm's benches/README, the
# Block-STM paper's Figures 5 and 6 (Diem and Aptos transfers; costs are what their rates imply).
PUBLISHED = {
    "pevm_uniswap_64us": (64.0, 32, 22.1),
    "pevm_erc20_6_6us": (6.6, 32, 4.05),
    "pevm_transfer_3_3us": (3.3, 32, 2.82),
    "block_stm_aptos_100us": (100.0, 32, 17.0),
    "block_stm_diem_180us": (180.0, 32, 20.0),
}


def run(quick: bool) -> tuple[Figures, list[str]]:
    """Simulate, and compare the simulator with real runs on as many threads as there are cores.

    Args:
        quick: fewer repetitions of the real runs; the simulation is the same.

    Raises:
        InternalError: `BENCH_MISMATCH`, when a real run gives another result than serial.
    """
    spins = frame.spin_scalings(THREADS[1:])
    figures, notes = synthetic()
    parts = (asset, signatures, ablation.measure, block_building.measure, published, costs)
    for part in parts:
        more, told = part()
        figures |= more
        notes += told
    for check in (validation, executions):
        more, told = check(spins, 5 if quick else 15)
        figures |= more
        notes += told
    return figures, notes


def speedup(
    trace: _native.Trace, band: str = "nominal", workers: int = WORKERS, engine: str = "auto"
) -> float:
    """How much faster than plain serial."""
    return replay(trace, workers, band, engine).speedup


def synthetic() -> tuple[Figures, list[str]]:
    """The synthetic blocks."""
    exact = workloads.ZIPF_99.trace()
    bound = min(WORKERS, exact.work_ns / exact.critical_path_ns)
    figures: Figures = {
        "uniform20_nominal": figure(workloads.UNIFORM_20),
        "uniform20_worst": figure(workloads.UNIFORM_20, "worst"),
        "uniform100_nominal": figure(workloads.UNIFORM_100),
        "uniform3_nominal": figure(workloads.UNIFORM_3),
        "zipf80_nominal": figure(workloads.ZIPF_80),
        "zipf99_nominal": figure(workloads.ZIPF_99),
        "zipf99_exact_share": round(speedup(exact) / bound, 3),
        "zipf99_delta_nominal": figure(workloads.ZIPF_99_DELTA),
        "counter_delta_nominal": figure(workloads.COUNTER_DELTA),
        "counter_exact_nominal": figure(workloads.COUNTER_EXACT),
    }
    loads = {
        "uniform20": workloads.UNIFORM_20,
        "uniform100": workloads.UNIFORM_100,
        "uniform3": workloads.UNIFORM_3,
        "zipf80": workloads.ZIPF_80,
        "zipf99": workloads.ZIPF_99,
        "zipf99_delta": workloads.ZIPF_99_DELTA,
        "counter_delta": workloads.COUNTER_DELTA,
        "counter_exact": workloads.COUNTER_EXACT,
    }
    return figures, [f"{name}: {load.describe()}" for name, load in loads.items()]


def figure(load: Workload, band: str = "nominal") -> float:
    """A workload's speed-up at 96 virtual workers."""
    return round(speedup(load.trace(), band), 1)


def asset() -> tuple[Figures, list[str]]:
    """Transfers of the shipped asset contract: execute, and verify + execute."""
    chain = asset_block.chain()
    executed = asset_block.recorded(chain, BLOCK_TRANSACTIONS, RECORDED_RUNS)
    whole_us, share_us = signature_us()
    signed = executed.with_verify(round(1_000 * share_us))
    cost_us = executed.work_ns / BLOCK_TRANSACTIONS / 1_000
    # The workers check in batches of their share, plain serial in larger and cheaper ones.
    dearer = (cost_us + whole_us) / (cost_us + share_us)
    transfer = vm.prepare()
    machine_us = min(transfer.time_us(1_000) for _ in range(25))
    machine = asset_trace(machine_us)
    figures: Figures = {
        "transfer_execute_nominal": round(speedup(executed), 1),
        "transfer_execute_worst": round(speedup(executed, "worst"), 1),
        "transfer_signed_nominal": round(dearer * speedup(signed), 1),
        "transfer_signed_worst": round(dearer * speedup(signed, "worst"), 1),
        "transfer_execute_us": round(cost_us, 2),
        "transfer_verify_us": round(whole_us, 2),
        "transfer_machine_nominal": round(speedup(machine), 1),
        "transfer_machine_worst": round(speedup(machine, "worst"), 1),
        "transfer_machine_us": round(machine_us, 2),
    }
    bound = executed.work_ns / executed.critical_path_ns
    hot, told = hot_merchant(chain)
    whole, phases = whole_block.measure(
        chain,
        executed,
        workers=WORKERS,
        repeats=RECORDED_RUNS,
        check_us=(whole_us, share_us),
    )
    return figures | hot | whole, [
        *phases,
        f"transfer: a block of {BLOCK_TRANSACTIONS:,} transfers of the shipped asset contract as "
        f"the serial engine recorded it in this command ({cost_us:.2f} us a transaction on "
        f"average, of each the quickest of {RECORDED_RUNS} runs; decoding and state root "
        f"excluded), uniform over {asset_block.ACCOUNTS:,} accounts; T1/T-infinity {bound:,.1f}; "
        f"serial baseline {executed.work_ns / 1e6:.1f} ms; signed: and {whole_us:.2f} us a "
        f"signature in batches of 256 when serial, {share_us:.2f} us in the workers' batches of "
        f"{SHARE}, serial baseline {(cost_us + whole_us) * BLOCK_TRANSACTIONS / 1e3:.1f} ms",
        f"transfer_machine: the same of the contract machine alone, {machine_us:.2f} us, the least "
        "of 25 runs; keys from the contract's access templates",
        told,
    ]


def hot_merchant(chain: asset_block.Chain) -> tuple[Figures, str]:
    """Transfers of different members to one, as recorded, and as if both balances were read."""
    block = asset_block.recorded(chain, BLOCK_TRANSACTIONS, RECORDED_RUNS, one_merchant=True)
    exact = block.without_deltas()
    figures: Figures = {
        "hot_merchant_nominal": round(speedup(block), 1),
        "hot_merchant_worst": round(speedup(block, "worst"), 1),
        "hot_merchant_exact_nominal": round(speedup(exact), 2),
    }
    bounds = [one.work_ns / one.critical_path_ns for one in (block, exact)]
    return figures, (
        f"hot_merchant: a block of {BLOCK_TRANSACTIONS:,} transfers of the shipped asset contract "
        f"from as many members to one, recorded like transfer "
        f"({block.work_ns / BLOCK_TRANSACTIONS / 1_000:.2f} us a transaction; T1/T-infinity "
        f"{bounds[0]:,.1f}; serial baseline {block.work_ns / 1e6:.1f} ms); exact: every addition "
        f"as a read and a write (T1/T-infinity {bounds[1]:,.1f})"
    )


def asset_trace(cost_us: float) -> _native.Trace:
    """A block of transfers whose keys come from the contract's access templates."""
    path = vm.shipped("asset")
    templates = _native.AccessTemplates(compile_path(path).abi)
    draw, trace, numbers = random.Random(3), _native.Trace(), dict[bytes, int]()
    people = [bytes(member(str(number)).address) for number in range(asset_block.ACCOUNTS)]
    for _ in range(BLOCK_TRANSACTIONS):
        sender, to = draw.sample(people, 2)
        args = to + (1).to_bytes(8, "big")
        found = templates.predict("asset", "transfer", args, sender=sender)
        if found is None or found[3] or found[4]:
            raise InternalError(
                "BENCH_MISMATCH", "a transfer has no full template", subject="asset"
            )
        reads, writes, adds = (
            [numbers.setdefault(key, len(numbers)) for key in keys] for keys in found[:3]
        )
        trace.add(
            round(1_000 * cost_us),
            reads=[(key, 0) for key in reads],
            writes=writes,
            deltas=adds,
        )
    return trace


def signature_us() -> tuple[float, float]:
    """Microseconds per Ed25519 signature, keys met before: serially, in the workers' batches.

    Serial are the larger batches, which are cheaper. Where other work made them dearer the smaller
    ones count there too: plain serial checking could use them, and is never put in a worse light.
    """
    sizes = (256, SHARE)
    block = make_block(b"sim96")

    def check(size: int) -> None:
        batch = block.keys[:size], block.messages[:size], block.signatures[:size]
        if not all(_native.verify_ed25519_batch(*batch)):
            raise InternalError("BENCH_MISMATCH", "a valid signature was refused", subject="batch")

    least = [float("inf")] * len(sizes)
    for _ in range(16):
        for place, size in enumerate(sizes):
            least[place] = min(least[place], timed(partial(check, size)))
    large_us, share_us = (seconds * 1e6 / size for seconds, size in zip(least, sizes, strict=True))
    return min(large_us, share_us), share_us


def signatures() -> tuple[Figures, list[str]]:
    """Signature checks alone: equal shares of a block, each a batch of its own."""
    whole_us, share_us = signature_us()
    figures: Figures = {}
    for band in ("nominal", "worst"):
        inflation = _native.scheduler_costs(band)["inflation"]
        spent_us = SHARE * share_us * (1 + inflation) + SPAWN_US
        found = BLOCK_TRANSACTIONS * whole_us / spent_us
        figures[f"verify96_{band}"] = round(found, 1)
    return figures, [
        f"verify96: {BLOCK_TRANSACTIONS:,} Ed25519 signatures in {WORKERS} equal shares; measured "
        f"in this run: {share_us:.2f} us each in batches of {SHARE}, {whole_us:.2f} us in batches "
        f"of 256 (the serial baseline); no shared data; {SPAWN_US:g} us to start the workers; "
        "memory inflation of the band",
    ]


def costs() -> tuple[Figures, list[str]]:
    """What the scheduler's operations cost here beside what the bands assume."""
    here = _native.measured_costs(BLOCK_TRANSACTIONS, WORKERS)
    bands = {band: _native.scheduler_costs(band) for band in ("best", "nominal", "worst")}
    measured = {name: value for name, value in here.items() if name not in ASSUMED}
    figures: Figures = {f"cost_{name}": value for name, value in sorted(measured.items())}
    for key, load in (("uniform20", workloads.UNIFORM_20), ("uniform3", workloads.UNIFORM_3)):
        found = _native.simulate(load.trace(), WORKERS, costs=measured)
        figures[f"{key}_measured_costs"] = round(found.speedup, 1)
    beside = ", ".join(
        f"{name} {value:g} / {bands['nominal'][name]:g}" for name, value in sorted(measured.items())
    )
    assumed = (
        f"band {band}: " + ", ".join(f"{name} {values[name]:g}" for name in sorted(ASSUMED))
        for band, values in bands.items()
    )
    return figures, [
        f"costs, ns, measured here over the real structures / in every band: {beside}",
        *assumed,
    ]


def executions(spins: Spins, repeats: int) -> tuple[Figures, list[str]]:
    """Relative errors of the executions per transaction, on a skewed block without hints."""
    trace = workloads.ZIPF_99.trace().without_hints()
    figures: Figures = {}
    notes: list[str] = []
    for threads in THREADS:
        key, doubt = f"validation_executions_error_{threads}t", doubtful(threads, spins)
        figures[key] = None
        notes += [f"{key} is null: {doubt}"] if doubt else []
        if too_many(threads):
            continue
        real = _native.bench_blocks(trace, ["stm"], threads=threads, repeats=repeats)[0]
        found = _native.simulate(trace, threads, engine="stm")
        count = len(trace)
        if not doubt:
            figures[key] = round(abs(found.executions * repeats / real.executions - 1), 3)
        notes.append(
            f"{key}: executions a transaction, real {real.executions / repeats / count:.3f}, "
            f"simulated {found.executions / count:.3f}; proved wrong, real "
            f"{real.invalidated / repeats:.0f} a block, simulated {found.invalidated}; "
            f"{workloads.ZIPF_99.describe()}, no hints"
        )
    return figures, notes


def published() -> tuple[Figures, list[str]]:
    """The simulator at the published points of pevm and Block-STM."""
    figures: Figures = {}
    told = []
    for name, (cost_us, threads, ratio) in PUBLISHED.items():
        trace = Workload(cost_us, payments_only=True).trace().without_hints()
        found = round(speedup(trace, workers=threads), 2)
        figures[f"crosscheck_{name}"] = found
        told.append(f"{name} at {threads} threads: published {ratio}, simulated {found}")
    return figures, [
        "crosscheck: independent payments, no hints, nominal band, our scheduler's overheads; "
        "pevm's 32 threads are 16 cores, which the model does not know; " + "; ".join(told)
    ]


def validation(spins: Spins, repeats: int) -> tuple[Figures, list[str]]:
    """Relative errors of the simulator against real runs, each against its own serial run."""
    figures: Figures = {}
    notes: list[str] = []
    for threads in THREADS:
        for suffix, load in VALIDATED.items():
            key, doubt = f"validation_error_{threads}t{suffix}", doubtful(threads, spins)
            figures[key] = None
            if too_many(threads):
                notes.append(f"{key} is null: {doubt}")
                continue
            real, spread = real_ratio(load, threads, repeats)
            simulated = 1 / speedup(load.trace(), workers=threads, engine="dag")
            if not doubt and spread > SERIAL_SPREAD_MAX:
                doubt = (
                    "other work disturbs the clock, serial runs of one block "
                    f"differ by {100 * spread:.0f} %"
                )
            if doubt:
                notes.append(f"{key} is null: {doubt}")
            else:
                figures[key] = round(abs(simulated / real - 1), 3)
            notes.append(
                f"{key}: parallel over serial time, real {real:.4f} (median of {repeats} "
                f"interleaved), simulated {simulated:.4f}; {load.describe()}"
            )
    return figures, notes


def too_many(threads: int) -> bool:
    """Whether real threads would take turns on this machine's cores."""
    return (os.cpu_count() or 1) < threads


def doubtful(threads: int, spins: Spins) -> str:
    """Why real threads say nothing here; empty when they do."""
    return frame.threads_doubt(threads, spins.get(threads))


def real_ratio(load: Workload, threads: int, repeats: int) -> tuple[float, float]:
    """(median of the parallel engine's time over serial's, runs interleaved; how far the serial
    runs' median lies above their least)."""
    try:
        serial, parallel = _native.bench_blocks(
            load.trace(), ["serial", "dag"], threads=threads, repeats=repeats
        )
    except RuntimeError as fault:
        raise InternalError("BENCH_MISMATCH", str(fault), subject=load.describe()) from None
    pairs = zip(parallel.times_ns, serial.times_ns, strict=True)
    ratio = median(parallel_ns / serial_ns for parallel_ns, serial_ns in pairs)
    return ratio, median(serial.times_ns) / min(serial.times_ns) - 1
