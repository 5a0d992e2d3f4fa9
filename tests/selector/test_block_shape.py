"""The block-shape policy: the same everywhere, within bounds, quick to grow, slow to shrink."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainnode._proto import types_pb2
from chainnode.selector import BlockEvidence, check, decide, explain
from chainnode.selector.policy import WINDOW_BLOCKS
from chainnode.types.block import BlockHeader
from chainnode.types.errors import InternalError, PeerFault
from chainnode.types.genesis import ChainConfig

CONFIG = ChainConfig(
    chain_id="test",
    block_tx_cap_min=100,
    block_tx_cap_max=5_000,
    block_interval_min_ms=10,
    block_interval_max_ms=200,
)


def run(
    loads: list[int], config: ChainConfig = CONFIG, spacing_ms: int | None = None
) -> list[BlockEvidence]:
    """A chain on which `loads[i]` transactions wait before block i + 1; unplaced ones go on."""
    chain: list[BlockEvidence] = []
    waiting = 0
    now_ms = 1_000
    for load in loads:
        shape = decide(config, chain).architecture
        waiting += load
        taken = min(waiting, shape.block_tx_cap)
        waiting -= taken
        now_ms += shape.block_interval_ms if spacing_ms is None else spacing_ms
        chain.append(
            BlockEvidence(
                len(chain) + 1, taken, shape.block_tx_cap, shape.block_interval_ms, now_ms
            )
        )
    return chain


def header(height: int, chain: list[BlockEvidence]) -> BlockHeader:
    zero = bytes(32)
    return BlockHeader(
        version=1,
        chain_id="test",
        height=height,
        previous_hash=zero,
        timestamp_ms=1,
        tx_root=zero,
        tx_count=0,
        engine="tbft",
        engine_epoch=0,
        validators_hash=zero,
        next_validators_hash=zero,
        architecture=decide(CONFIG, chain).architecture,
        proposer=zero,
        last_commit_hash=zero,
        evidence_hash=zero,
        exec_height=0,
        state_root=zero,
        receipts_root=zero,
        results_accumulator=zero,
    )


def test_a_load_step_grows_the_cap_and_a_quiet_spell_takes_it_back() -> None:
    chain = run([5] * 10 + [3_000] * 20 + [5] * 120, spacing_ms=300)
    caps = [item.block_tx_cap for item in chain]
    assert caps[:10] == [100] * 10
    assert max(caps) == 5_000
    # 100 -> 200 -> ... -> 3,200 -> 5,000: two saturated blocks each.
    assert caps[10 + 12] == 5_000
    assert caps[-1] == 100


def test_growth_needs_two_saturated_blocks_and_shrinking_a_whole_window() -> None:
    once = run([87] + [0] * 3)
    assert [item.block_tx_cap for item in once] == [100] * 4
    twice = run([88, 88, 0])
    assert [item.block_tx_cap for item in twice] == [100, 100, 200]
    quiet = run([88, 88] + [25] * 9)
    assert [item.block_tx_cap for item in quiet][2:] == [200] * 8 + [100]
    half_full = run([88, 88] + [26] * 20)
    assert [item.block_tx_cap for item in half_full][2:] == [200] * 20


def test_a_steady_load_reaches_one_shape_and_stays() -> None:
    for load in (1, 3, 10, 40, 90, 150, 700, 4_000):
        chain = run([load] * 80)
        shapes = [(item.block_tx_cap, item.block_interval_ms) for item in chain[-30:]]
        assert shapes == [shapes[0]] * 30, f"load {load} oscillates"


def test_small_blocks_at_full_pace_get_a_longer_interval_and_lone_ones_the_shortest() -> None:
    busy = run([10] * 40)
    assert busy[0].block_interval_ms == 10
    assert busy[-1].block_interval_ms == 200
    lone = run([10] * 40 + [1] * 40)
    assert lone[-1].block_interval_ms == 10
    # Blocks that come slower than the interval are not paced by it.
    slow = run([10] * 40, spacing_ms=300)
    assert slow[-1].block_interval_ms == 10


def test_blocks_that_only_carry_results_say_nothing_about_the_interval() -> None:
    chain = run([1, 0, 0] * 20)
    assert {item.block_interval_ms for item in chain} == {10}


def test_only_the_last_blocks_count() -> None:
    chain = run([500] * 30)
    assert decide(CONFIG, chain) == decide(CONFIG, chain[-WINDOW_BLOCKS:])
    assert decide(CONFIG, chain).height == 31


def test_the_wire_configuration_decides_like_the_dataclass() -> None:
    wire = types_pb2.ChainConfig.FromString(CONFIG.encode())
    chain = run([500] * 10)
    assert decide(wire, chain) == decide(CONFIG, chain)


def test_a_header_with_another_shape_is_refused() -> None:
    chain = run([500] * 12)
    honest = header(13, chain)
    check(honest, CONFIG, chain)
    shape = honest.architecture
    for wrong in (
        replace(shape, block_tx_cap=shape.block_tx_cap * 2),
        replace(shape, block_interval_ms=shape.block_interval_ms + 1),
        replace(shape, id="xov"),
        replace(shape, policy_version=2),
        replace(shape, inputs_digest=bytes(32)),
    ):
        with pytest.raises(PeerFault) as caught:
            check(replace(honest, architecture=wrong), CONFIG, chain)
        assert caught.value.code == "ARCHITECTURE_MISMATCH"
        assert caught.value.subject == "height 13"


def test_a_window_with_a_hole_or_cut_short_is_our_own_fault() -> None:
    chain = run([500] * 12)
    for broken in (chain[:5] + chain[6:], chain[-3:], chain[::-1]):
        with pytest.raises(InternalError, match="SELECTOR_WINDOW"):
            decide(CONFIG, broken)
    with pytest.raises(InternalError, match="SELECTOR_WINDOW"):
        check(header(13, chain), CONFIG, chain[:-1])


def test_the_explanation_is_json_and_states_inputs_rule_and_thresholds() -> None:
    chain = run([500] * 3)
    told = json.loads(json.dumps(explain(decide(CONFIG, chain))))
    assert told["architecture"]["block_tx_cap"] == 200
    assert told["height"] == 4
    assert told["rule"]["block_tx_cap"] == "keep"
    assert [item["height"] for item in told["inputs"]] == [1, 2, 3]
    assert "175 transactions" in told["would_change"]["block_tx_cap doubles"]
    assert explain(decide(CONFIG, []))["rule"] == {
        "block_tx_cap": "first",
        "block_interval_ms": "first",
    }


counts = st.lists(st.integers(0, 12_000), max_size=40)


@given(counts, st.integers(1, 500), st.integers(1, 10_000), st.integers(0, 50), st.integers(0, 900))
def test_any_history_stays_within_bounds_and_moves_by_at_most_two(
    loads: list[int], cap_min: int, cap_span: int, interval_min: int, interval_span: int
) -> None:
    config = ChainConfig(
        chain_id="test",
        block_tx_cap_min=cap_min,
        block_tx_cap_max=cap_min + cap_span,
        block_interval_min_ms=interval_min,
        block_interval_max_ms=interval_min + interval_span,
    )
    chain = run(loads, config)
    assert run(loads, config) == chain
    for before, after in pairwise(chain):
        assert cap_min <= after.block_tx_cap <= cap_min + cap_span
        assert interval_min <= after.block_interval_ms <= interval_min + interval_span
        assert before.block_tx_cap // 2 <= after.block_tx_cap <= 2 * before.block_tx_cap
