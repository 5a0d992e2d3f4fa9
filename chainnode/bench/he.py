"""`chainnode bench he`: the encrypted kernels against a general library, and whole queries."""

from __future__ import annotations

from chainnode.bench import he_cold, he_filtered, he_kernels, he_queries
from chainnode.bench.frame import Figures

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


def run(quick: bool) -> tuple[Figures, list[str]]:
    """Measure what this machine and this version can; the other keys are None with a note."""
    figures, notes = he_kernels.run(quick)
    for part in (he_filtered, he_queries, he_cold):
        more, more_notes = part.run(quick)
        figures, notes = figures | more, [*notes, *more_notes]
    missing = [key for key in KEYS if key not in figures]
    if missing:
        notes = [*notes, f"not measured yet: {', '.join(missing)}"]
    return {key: figures.get(key) for key in KEYS} | figures, notes
