"""`chainnode bench he`: the encrypted kernels against a general library, and whole queries."""

from __future__ import annotations

from chainnode.bench import he_cold, he_cuda, he_filtered, he_kernels, he_queries
from chainnode.bench.frame import Figures
from chainnode.bench.he_seal import Exact

KEYS = (
    "scorecard_vs_seal",
    "scorecard_vs_seal_best",
    "scorecard_vs_ideal",
    "filtered_sum_vs_seal",
    "filtered_sum_vs_seal_lazy",
    "filtered_sum_vs_ideal",
    "bytes_read",
    "profile",
    "bandwidth_share",
    "q6_ns_per_row_thread_limb",
    "ingest_ms_per_block",
    "query_100k_sum_ms",
    "query_100k_score_ms",
    "ifma",
    "exact_mismatches",
)


PARTS = (he_kernels, he_filtered, he_queries, he_cold, he_cuda)


def run(quick: bool) -> tuple[Figures, list[str]]:
    """Measure every part; what this machine or installation cannot give is None, with a note."""
    exact, figures, notes = Exact(), Figures(), list[str]()
    for part in PARTS:
        more, more_notes = part.run(quick, exact)
        figures, notes = figures | more, [*notes, *more_notes]
    figures |= {"exact_mismatches": exact.mismatches, "exact_compared": exact.compared}
    if exact.differing:
        notes.append(f"exact_mismatches: {', '.join(exact.differing)}")
    missing = [key for key in KEYS if key not in figures]
    if missing:
        notes.append(f"not measured: {', '.join(missing)}")
    return {key: figures.get(key) for key in KEYS} | figures, notes
