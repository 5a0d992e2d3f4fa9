"""What each part of the executor brings: the same block at 96 virtual workers, one part taken away.

Parts: hints (what is known of a block before it runs), deltas (additions that nobody waits for),
batched claims, the speculation window, and push invalidation (a wrong guess is found when it is
published, not when it comes up to be final). The last two matter only where there are guesses, so
they are taken away beside the hints.
"""

from __future__ import annotations

from typing import Final

from chainnode import _native
from chainnode.bench import workloads
from chainnode.bench.frame import Figures
from chainnode.bench.workloads import Workload

WORKERS: Final = 96
WITHOUT_WINDOW: Final = 1_000_000
# Dearer transactions are drawn one at a time in any case.
BATCHED_BELOW_US: Final = 10.0
MIXES: Final[dict[str, Workload]] = {
    "uniform20": workloads.UNIFORM_20,
    "uniform3": workloads.UNIFORM_3,
    "zipf80": workloads.ZIPF_80,
    "zipf99": workloads.ZIPF_99,
    "zipf99_delta": workloads.ZIPF_99_DELTA,
    "counter_delta": workloads.COUNTER_DELTA,
}


def measure() -> tuple[Figures, list[str]]:
    """Every part of every mix as a figure of its own: `ablation_<mix>_<what is missing>`.

    `full` is the baseline of the others; each is a speed-up over plain serial execution.
    """
    figures: Figures = {}
    notes = [
        "ablation_*: speed-up over plain serial of the same block at 96 virtual workers, nominal "
        "band, with one part taken away (full: none); no_templates: written keys learnt from the "
        "blocks before, all of them, instead of foretold by the compiler; no_hints: nothing known "
        "beforehand, learnt in the block alone; no_window: unbounded speculation; no_push: wrong "
        "guesses found in order; no_batch: one claim at a time; no_deltas: each addition a read "
        "and a write"
    ]
    for mix, load in MIXES.items():
        for missing, found in cases(load).items():
            figures[f"ablation_{mix}_{missing}"] = round(found.speedup, 1)
            figures[f"ablation_{mix}_{missing}_executions_per_tx"] = round(
                found.executions / load.transactions, 3
            )
        notes.append(f"ablation_{mix}: {load.describe()}")
    return figures, notes


def cases(load: Workload) -> dict[str, _native.Makespan]:
    """One mix in full and with each part taken away, by what is missing."""
    trace = load.trace()
    blind = trace.without_hints()
    learnt = _native.Trace.decode(trace.encode().replace("h=complete", "h=predicted"))
    found = {
        "full": _native.simulate(trace, WORKERS),
        "no_templates": _native.simulate(learnt, WORKERS),
        "no_hints": _native.simulate(blind, WORKERS),
        "no_hints_no_window": _native.simulate(blind, WORKERS, window=WITHOUT_WINDOW),
        "no_hints_no_push": _native.simulate(blind, WORKERS, push=False),
    }
    if load.cost_us < BATCHED_BELOW_US:
        found["no_batch"] = _native.simulate(trace, WORKERS, batch=1)
    if load.deltas or load.counter == "delta":
        found["no_deltas"] = _native.simulate(trace.without_deltas(), WORKERS)
    return found
