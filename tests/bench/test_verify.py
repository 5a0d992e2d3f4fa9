"""The signature benchmark gives every promised key, in the right relation to each other."""

import dataclasses

import pytest

from chainnode.bench import verify
from chainnode.types.errors import InternalError


@pytest.mark.slow
def test_quick_run_gives_the_promised_keys() -> None:
    figures, notes = verify.run(True)
    promised = {
        "ed25519_batch_us",
        "ed25519_library_us",
        "ed25519_ratio",
        "p256_us",
        "sm2_us",
        "sm2_openssl_us",
        "threads2_scaling",
        "threads4_scaling",
        "threads8_scaling",
        "threads16_scaling",
    }
    assert promised <= set(figures)
    for key, value in figures.items():
        if value is None:
            assert any(key in note for note in notes), f"{key} is null without a reason"
    ratio = figures["ed25519_ratio"]
    assert isinstance(ratio, float)
    assert ratio > 1


def test_verifiers_that_disagree_fail_the_run() -> None:
    block = verify.make_block(b"test")
    verify.compare_verdicts(block)
    swapped = dataclasses.replace(block, library_keys=block.library_keys[::-1])
    with pytest.raises(InternalError, match="BENCH_MISMATCH"):
        verify.compare_verdicts(swapped)


def test_a_large_block_is_checked_on_more_threads_where_a_spin_kernel_gains_as_much() -> None:
    block = verify.make_block(b"many")
    figures, notes = verify.many_threads(block, {4: 3.9, 8: 5.0, 16: None}, 1)
    assert [isinstance(value, float) for value in figures.values()] == [True, False, False]
    assert any(note.startswith("threads8_scaling: ") for note in notes)
    for threads in (8, 16):
        assert any(note.startswith(f"threads{threads}_scaling is null: ") for note in notes)
