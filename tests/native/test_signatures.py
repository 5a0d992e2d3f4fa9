"""ZIP-215 through the Python seam: the published vectors, alone and in batches."""

import json
import runpy
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from chainnode import _native

VECTORS = Path(__file__).parents[1] / "vectors"
FILE = json.loads((VECTORS / "zip215.json").read_text())
MESSAGE = bytes.fromhex(FILE["message"])
CASES = [
    (bytes.fromhex(item["public_key"]), bytes.fromhex(item["signature"]), item["valid"])
    for item in FILE["vectors"]
]


def test_the_vectors_are_those_of_the_published_rule() -> None:
    generator = runpy.run_path(str(VECTORS / "make_zip215.py"))
    assert generator["vectors"]() == FILE["vectors"]
    assert generator["MESSAGE"] == MESSAGE
    assert sum(valid for _, _, valid in CASES) == 196


def test_the_vectors_get_their_verdicts_alone_and_in_batches() -> None:
    expected = [valid for _, _, valid in CASES]
    keys, signatures = [case[0] for case in CASES], [case[1] for case in CASES]
    alone = [_native.verify_ed25519(key, MESSAGE, signature) for key, signature, _ in CASES]
    assert alone == expected
    assert _native.verify_ed25519_batch(keys, [MESSAGE] * len(CASES), signatures) == expected


KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(5)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=40), st.booleans()), max_size=60))
def test_a_batch_finds_exactly_the_damaged_ones(cases: list[tuple[int, bytes, bool]]) -> None:
    keys = [KEYS[number].public_key().public_bytes_raw() for number, _, _ in cases]
    signatures = [KEYS[number].sign(message) for number, message, _ in cases]
    messages = [message + b"!" * damaged for _, message, damaged in cases]
    verdicts = _native.verify_ed25519_batch(keys, messages, signatures)
    assert verdicts == [not damaged for _, _, damaged in cases]


def test_lengths_are_refused_or_raised() -> None:
    key, signature = CASES[0][0], CASES[0][1]
    assert not _native.verify_ed25519(key + b"\0", MESSAGE, signature)
    assert not _native.verify_ed25519(key, MESSAGE, signature[:-1])
    with pytest.raises(ValueError, match="counts must be equal"):
        _native.verify_ed25519_batch([key], [], [signature])


def test_only_prime_order_keys_may_be_enrolled() -> None:
    assert all(_native.is_torsion_free(key.public_key().public_bytes_raw()) for key in KEYS)
    assert not any(_native.is_torsion_free(key) for key, _, _ in CASES)
    assert not _native.is_torsion_free(b"short")


def test_the_curve_arithmetic_in_use_has_a_name() -> None:
    assert _native.CURVE_BACKEND in ("avx512ifma", "avx2", "serial")
