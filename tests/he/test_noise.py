"""The planner's noise figures bound what the native library measures."""

import hashlib
import math

import numpy as np
import pytest
from he_council import Council, joint_keys

from chainnode import _native
from chainnode.he import encode
from chainnode.he.plan import LinearForm, Term
from chainnode.he.planner import degree_and_noise as noise
from chainnode.he.profiles import PROFILES, Profile
from chainnode.he.schema import ROWS_PER_BLOCK, SLOTS_PER_BLOCK
from chainnode.he.threshold import Sharing


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_profiles_repeat_the_native_table(profile: Profile) -> None:
    native = _native.he_profile(profile.name)
    assert native.slots == profile.slots
    assert tuple(native.noise_bits[: profile.factors_max()]) == profile.noise_bits
    assert native.factors_max >= profile.factors_max()
    assert native.plain_modulus == profile.plain_modulus
    assert tuple(prime.bit_length() for prime in native.moduli) == profile.limb_bits


@pytest.mark.parametrize("parties", [1, 2, 3, 4, 7, 8, 35, 70])
def test_flooding_is_as_wide_as_the_native_library_draws_it(parties: int) -> None:
    for profile in PROFILES.values():
        for scalar, margin in (
            (True, noise.SCALAR_MARGIN_BITS),
            (False, noise.VECTOR_MARGIN_BITS),
        ):
            native = _native.he_flood_bits(profile.name, profile.limbs, parties, scalar)
            assert noise.flood_bits(profile, parties, margin) == native
    assert noise.SCALAR_MARGIN_BITS == _native.HE_SCALAR_MARGIN_BITS


class SoleKey:
    """One key that encrypts and reports noise."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.key = _native.HeSecretKey.generate(profile.name)
        self.limbs = profile.limbs
        seed = b"common"
        self.public_key, self.relin_key = joint_keys(profile.name, seed, [self.key])

    def encrypt(self, values: np.ndarray, label: str) -> bytes:
        block = encode.pack(values.astype(np.uint64), len(values))[0]
        seed = hashlib.sha256(label.encode()).digest()
        return _native.he_encrypt(self.profile.name, self.public_key, block, seed, self.limbs)

    def noise_bits(self, ciphertext: bytes) -> int:
        budget = self.key.noise_budget_bits(ciphertext, self.limbs)
        return self.profile.modulus_bits() - budget


def test_a_filtered_sum_over_a_million_rows_is_carried() -> None:
    """A council of four, any three of which open, has six pieces."""
    profile, pieces = PROFILES["S36"], 6
    blocks = -(-1_000_000 // ROWS_PER_BLOCK)
    term = Term((LinearForm(("v",), (1,)), LinearForm(("bin",), (1,))))
    bound = noise.output_noise_bits(profile, (term,), blocks, pieces)
    assert bound <= noise.scalar_capacity_bits(profile, pieces)
    # The largest of 8,192 coefficients is about 4 deviations; 2^-128 is at 13.4.
    assert 16 * noise.TAIL_SQUARED >= 13.4**2


@pytest.mark.parametrize(
    ("members", "threshold", "rows", "points"),
    [
        (4, 2, 11_094_720, 65_536),
        (4, 3, 1_227_328, 26_754),
        (5, 3, 105_664, 10_362),
        (5, 4, 105_664, 10_362),
        (6, 5, 48_768, 8_460),
        (6, 4, 0, 3_663),
        (7, 6, 0, 3_575),
        (7, 5, 0, 1_384),
        (8, 6, 0, 1_094),
        (8, 5, 0, 489),
    ],
)
def test_what_councils_of_each_size_carry_is_what_the_reference_says(
    members: int, threshold: int, rows: int, points: int
) -> None:
    """docs/reference/sql.md: a filtered sum in S36, a scorecard in S, and four factors in M."""
    pieces = math.comb(members, members - threshold + 1)
    assert len(Sharing.of([str(place) for place in range(members)], threshold).pieces) == pieces

    def carried(profile: Profile, blocks: int, factors: int) -> bool:
        term = Term(tuple(LinearForm((f"c{place}",), (1,)) for place in range(factors)))
        bound = noise.output_noise_bits(profile, (term,), blocks, pieces)
        return bound <= noise.scalar_capacity_bits(profile, pieces)

    def scored(weight: int) -> bool:
        bound = noise.score_noise_bits(LinearForm(("bin",), (weight,)), pieces)
        return bound <= noise.vector_capacity_bits(pieces)

    blocks = rows // ROWS_PER_BLOCK
    assert blocks == 0 or carried(PROFILES["S36"], blocks, 2)
    assert not carried(PROFILES["S36"], blocks + 1, 2)
    assert carried(PROFILES["S36"], 10**9 // ROWS_PER_BLOCK, 1)
    assert carried(PROFILES["M"], 10**9 // ROWS_PER_BLOCK, 4)
    assert scored(points) and not scored(points + 1)


def test_sums_of_products_stay_below_the_bound() -> None:
    sole = SoleKey(PROFILES["S36"])
    random = np.random.default_rng(3)
    blocks = 8
    total = []
    for block in range(blocks):
        value = sole.encrypt(random.integers(0, 5_000_000, 8_000), f"value {block}")
        parts = [
            sole.encrypt(random.integers(0, 2, 8_000), f"bin {block} {index}") for index in (0, 1)
        ]
        form = _native.he_add("S36", sole.limbs, parts)
        total.append(_native.he_multiply("S36", sole.limbs, value, form))
    product = _native.he_add("S36", sole.limbs, total)
    result = _native.he_relinearise("S36", sole.limbs, product, sole.relin_key)
    term = Term((LinearForm(("v",), (1,)), LinearForm(("a", "b"), (1, 1))))
    bound = noise.output_noise_bits(PROFILES["S36"], (term,), blocks, 1)
    assert bound - 8 <= sole.noise_bits(result) <= bound


def test_masked_weighted_scores_stay_below_the_bound() -> None:
    sole = SoleKey(PROFILES["S"])
    random = np.random.default_rng(4)
    weights = [int(weight) for weight in random.integers(-90, 90, 40)]
    zero = sole.encrypt(np.zeros(8_000), "zero")
    added = [zero]
    for index, weight in enumerate(weights):
        column = sole.encrypt(random.integers(0, 2, 8_000), f"bin {index}")
        factor = np.full(SLOTS_PER_BLOCK, weight % PROFILES["S"].plain_modulus, dtype="<u8")
        added.append(_native.he_multiply_plain("S", sole.limbs, column, factor.tobytes()))
    score = _native.he_add("S", sole.limbs, added)
    mask = encode.pack(random.integers(0, 2, 8_128).astype(np.uint64), 8_128)[0]
    masked = _native.he_multiply_plain("S", sole.limbs, score, mask)
    form = LinearForm(tuple(map(str, weights)), tuple(weights))
    bound = noise.score_noise_bits(form, 1)
    assert bound - 10 <= sole.noise_bits(masked) <= bound


def test_masked_scores_of_private_points_stay_below_the_bound() -> None:
    profile = PROFILES["M"]
    sole, limbs, columns = SoleKey(profile), 5, 24
    random = np.random.default_rng(5)
    products = []
    for index in range(columns):
        pair = []
        # The largest points there are: uniform in the whole plaintext space.
        for name, values in (
            ("bin", random.integers(0, 2, profile.slots)),
            ("points", np.full(profile.slots, random.integers(0, profile.plain_modulus))),
        ):
            seed = hashlib.sha256(f"{name} {index}".encode()).digest()
            slots = values.astype("<u8").tobytes()
            pair.append(_native.he_encrypt("M", sole.public_key, slots, seed, limbs))
        products.append(_native.he_multiply("M", limbs, *pair))
    total = _native.he_add("M", limbs, products)
    linear = _native.he_relinearise("M", limbs, total, sole.relin_key)
    mask = encode.mask_blocks(random.integers(0, 2, 16_000) == 1, 16_000, "M")[0]
    masked = _native.he_multiply_plain("M", limbs, linear, mask)
    room = sole.key.noise_budget_bits(masked, limbs)
    measured = profile.modulus_bits(limbs) - room
    bound = noise.private_score_noise_bits(columns, 1)
    assert bound - 12 <= measured <= bound


def test_fresh_joint_encryptions_stay_below_the_bound() -> None:
    council = Council("S")
    block = encode.pack(np.ones(8_128, dtype=np.uint64), 8_128)
    limbs = PROFILES["S"].limbs
    ciphertext = _native.he_encrypt("S", council.public_key, block[0], b"e" * 32, limbs)
    assert len(ciphertext) == 2 * limbs * SLOTS_PER_BLOCK * 8
    bank = _native.HeSecretKey.generate("S")
    target = bank.public_key()
    shares = [key.key_switch_share(ciphertext, limbs, target, b"q", 4) for key in council.keys]
    switched = _native.he_combine_key_switch("S", limbs, ciphertext, shares)
    assert bank.decrypt(switched, limbs) == block[0]
    assert bank.noise_budget_bits(switched, limbs) >= noise.VECTOR_MARGIN_BITS - 1
