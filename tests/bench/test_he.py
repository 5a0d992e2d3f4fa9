"""The benchmark of encrypted queries gives every promised key and counts what it compared."""

import pytest

from chainnode.bench import frame, he, he_cold, he_filtered, he_kernels, he_queries
from chainnode.bench.he_seal import Exact
from chainnode.types.errors import InternalError

RATIOS = (
    "scorecard_vs_seal",
    "scorecard_vs_seal_best",
    "scorecard_vs_ideal",
    "filtered_sum_vs_seal",
    "filtered_sum_vs_seal_lazy",
    "filtered_sum_vs_ideal",
)
TIMES = (
    "q6_ns_per_row_thread_limb",
    "ingest_ms_per_block",
    "query_100k_sum_ms",
    "query_100k_score_ms",
)
COLUMNS, BLOCKS, ROWS = 6, 2, 3_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same parts over fewer columns, blocks and rows."""
    monkeypatch.setattr(he_kernels, "COLUMNS", COLUMNS)
    monkeypatch.setattr(he_kernels, "FILTER_BLOCKS", BLOCKS)
    monkeypatch.setattr(he_filtered, "FILTER_BLOCKS", BLOCKS)
    monkeypatch.setattr(he_filtered, "Q6_BLOCKS_QUICK", BLOCKS)
    monkeypatch.setattr(he_queries, "SIZES", {"100k": ROWS})
    monkeypatch.setattr(he_cold, "COLUMNS_QUICK", COLUMNS)
    monkeypatch.setattr(he_cold, "BLOCKS", BLOCKS)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_run_gives_the_promised_keys_and_compares_every_value() -> None:
    figures, notes = he.run(True)
    assert {*RATIOS, *TIMES} < set(he.KEYS) <= set(figures)
    assert len(he.KEYS) == 15
    for key, value in figures.items():
        if value is None:
            assert any(key in note for note in notes), f"{key} is null without a reason"
    for key in (*RATIOS, *TIMES):
        value = figures[key]
        assert isinstance(value, float) and value > 0, key
    assert figures["profile"] == "M"
    assert figures["bytes_read"] == 6 * 2 * 7 * 16_384 * 6 * BLOCKS
    assert isinstance(figures["ifma"], bool)
    share = figures["bandwidth_share"]
    assert share is None or (isinstance(share, float) and 0 < share <= 1)
    assert figures["exact_mismatches"] == 0
    compared = figures["exact_compared"]
    # At least our scorecard and filter, SEAL's four of them and two filtered sums of profile M,
    # and the scores of a warm-up and five rounds.
    assert isinstance(compared, int)
    assert compared > (1 + 1 + 3 + 2) * 8_192 + 2 * 16_384 + 6 * ROWS


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_results_that_differ_are_counted_and_fail_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = he_kernels._weighted
    monkeypatch.setattr(he_kernels, "_weighted", lambda *a: plain(*a) ^ 1)
    monkeypatch.setattr(he, "PARTS", (he_kernels,))
    result = frame.run("he", quick=True)
    # Ours and SEAL's three ways.
    assert result["figures"]["exact_mismatches"] == 4 * 8_192
    assert any("the fused scorecard" in note for note in result["notes"])
    with pytest.raises(InternalError) as caught:
        frame.refuse_mismatches(result)
    assert caught.value.code == "BENCH_MISMATCH"
    frame.refuse_mismatches({**result, "figures": {"exact_mismatches": 0}})


def test_one_answer_is_one_value_and_slots_count_each() -> None:
    exact = Exact()
    exact.value((3, 4), (3, 4), "an answer")
    exact.value((3, 4), (3, 5), "an answer")
    assert (exact.compared, exact.mismatches, exact.differing) == (2, 1, ["an answer"])
