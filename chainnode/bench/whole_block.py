"""A whole block of transfers on 96 workers: what is around the execution measured, not assumed.

The executor's own code runs a block on one thread and says of each phase what every worker's part
takes and what lies in no part, which is one worker's while the others wait. Execution itself is
simulated. docs/explanation/ninety-six-workers.md says what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chainnode import _native
from chainnode.bench.asset_block import Chain
from chainnode.bench.frame import Figures

EXECUTE: Final = "execute"


@dataclass(frozen=True, slots=True)
class Row:
    """One phase, in nanoseconds.

    Args:
        plain_ns: in plain serial execution.
        whole_ns: on one thread, divided among the workers' parts.
        serial_ns: of it, what lies in no part.
        time_ns: on all workers.
    """

    name: str
    plain_ns: int
    whole_ns: int
    serial_ns: int
    time_ns: int


def timed(made: Chain, transactions: int, workers: int, repeats: int) -> _native.BlockTiming:
    """A block's phases, of every part the quickest of several runs."""
    warm, block = made.block(1, 100), made.block(2, transactions)

    def once() -> _native.BlockTiming:
        executor = made.executor()
        executor.execute_block(*warm)
        return executor.time_block(*block, workers)[1]

    found = once()
    for _ in range(repeats - 1):
        found.least(once())
    return found


def rows(
    plain: _native.BlockTiming,
    shared: _native.BlockTiming,
    executed: _native.Trace,
    workers: int,
    band: str,
) -> list[Row]:
    """The phases in a band, execution simulated from a recorded block."""
    alone = {name: whole_ns for name, whole_ns, _, _ in plain.phases()}
    made = []
    for name, whole_ns, serial_ns, time_ns in shared.phases(band):
        if name == EXECUTE:
            found = _native.simulate(executed, workers, band_name=band)
            row = Row(name, executed.work_ns, executed.work_ns, 0, execution_ns(found))
        else:
            row = Row(name, alone.get(name, 0), whole_ns, serial_ns, time_ns)
        made.append(row)
    return made


def execution_ns(found: _native.Makespan) -> int:
    """What of a simulated block is neither set up before nor collected after."""
    return found.makespan_ns - found.around_ns


def measure(
    made: Chain,
    executed: _native.Trace,
    *,
    workers: int,
    repeats: int,
    check_us: tuple[float, float],
) -> tuple[Figures, list[str]]:
    """Speed-up of a whole block over plain serial, with its phases.

    Args:
        executed: the same block as recorded.
        check_us: microseconds a signature in large batches, and in those of one worker's share.
    """
    count = len(executed)
    plain, shared = (timed(made, count, number, repeats) for number in (1, workers))
    whole_us, share_us = check_us
    share = -(-count // workers)
    figures: Figures = {}
    notes = []
    for band in ("best", "nominal", "worst"):
        inflation = _native.scheduler_costs(band)["inflation"]
        checks = Row(
            "signatures",
            round(1_000 * whole_us * count),
            round(1_000 * share_us * count),
            0,
            round(1_000 * share_us * share * (1 + inflation)),
        )
        phases = [checks, *rows(plain, shared, executed, workers, band)]
        plain_ns = sum(row.plain_ns for row in phases)
        time_ns = sum(row.time_ns for row in phases)
        serial_ns = sum(row.serial_ns for row in phases)
        figures[f"block_transfer_{band}"] = round(plain_ns / time_ns, 1)
        if band != "nominal":
            continue
        figures["block_transfer_serial_us"] = round(plain_ns / count / 1_000, 2)
        figures["block_transfer_ms"] = round(time_ns / 1e6, 2)
        figures["block_transfer_one_worker_share"] = round(serial_ns / time_ns, 3)
        notes.append(
            f"block_transfer: everything from the batch's bytes to the new state, {count:,} signed "
            f"transfers of the shipped asset contract, {len(made.public_keys):,} accounts; "
            f"execution simulated, all else measured in this command on one thread as it divides "
            f"among {workers} workers, of each part the quickest of {repeats} runs; per "
            "transaction: plain serial / divided / of that in no part, us; time on all workers, ms"
        )
        notes += [
            f"block_transfer, {row.name}: {row.plain_ns / count / 1e3:.2f} / "
            f"{row.whole_ns / count / 1e3:.2f} / {row.serial_ns / count / 1e3:.3f} us; "
            f"{row.time_ns / 1e6:.3f} ms"
            for row in phases
        ]
    return figures, notes
