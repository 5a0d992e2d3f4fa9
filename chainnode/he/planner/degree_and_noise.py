"""Rule 8, degree and noise: refuse what the modulus cannot carry, and say by how much.

Noise starts from the measured size of a fresh encryption and of one relinearised product (the
largest of 8,192 coefficients, about 4 standard deviations). Encryptions are independent, so
variances add: noise grows with the root of the blocks, of the squared weights and of the members
of a joint key. A tail of 13.4 standard deviations, 3.4 times the largest, makes the bound fail with
at most 2^-128. It is taken under the root with the variances of a sum, so that only one rounding
is lost: that is what a filtered sum over a million rows needs.

A key council's flooding fills the modulus up to a margin; it hides noise B if its deviation is at
least B sqrt(24 a c) 2^(s/2) for a queries and c coefficients (Li, Micciancio, Schultz and Sorrell,
CRYPTO 2022), here s = 64 bits and a = 2^16. That is the capacity; decryption itself could carry
more.
"""

from __future__ import annotations

from typing import Final

from chainnode.he.plan import LinearForm, Term
from chainnode.he.profiles import DEEP, SCORES, Profile
from chainnode.types.errors import ClientFault

LIMBS_MIN: Final = 2
TAIL_BITS: Final = 2
TAIL_SQUARED: Final = 12
"""(13.8 standard deviations over 4) squared."""

MASK_BITS: Final = 21
"""A 0/1 mask as a plaintext polynomial multiplies noise by sqrt(N) t / sqrt(12)."""

SCALAR_HIDING_BITS: Final = 43
VECTOR_HIDING_BITS: Final = 49
"""32 + log2(24 a c) / 2, c = 1 or 8,192."""

SCALAR_MARGIN_BITS: Final = 12
VECTOR_MARGIN_BITS: Final = 3
"""What the council leaves free of flooding so that a wrong share shows."""

FLOOD_SPENT_BITS: Final = 4


def bits(value: int) -> int:
    """The smallest b with value <= 2^b."""
    return max(0, (value - 1).bit_length())


def root_bits(value: int) -> int:
    """The smallest b with sqrt(value) <= 2^b."""
    return (bits(value) + 1) // 2


def flood_bits(profile: Profile, parties: int, margin_bits: int, limbs: int = 0) -> int:
    """log2 of the deviation of one member's flooding, as the native library draws it."""
    return profile.modulus_bits(limbs) - margin_bits - FLOOD_SPENT_BITS - bits(parties)


def scalar_capacity_bits(profile: Profile, parties: int, limbs: int = 0) -> int:
    """The most noise an opened scalar of a profile may have, on all limbs or on fewer."""
    return flood_bits(profile, parties, SCALAR_MARGIN_BITS, limbs) - SCALAR_HIDING_BITS


def fewest_limbs(profile: Profile, noise_bits: int, parties: int) -> int:
    """How many limbs an aggregate reads: the fewest whose flooding hides its noise."""
    enough = (
        limbs
        for limbs in range(LIMBS_MIN, profile.limbs)
        if noise_bits <= scalar_capacity_bits(profile, parties, limbs)
    )
    return next(enough, profile.limbs)


def vector_capacity_bits(parties: int, profile: Profile = SCORES, limbs: int = 0) -> int:
    """The most noise a masked score vector may have, on all limbs or on fewer."""
    # A ring of twice the coefficients needs the root of twice as many hidden.
    hiding = VECTOR_HIDING_BITS + (profile.slots > SCORES.slots)
    return flood_bits(profile, parties, VECTOR_MARGIN_BITS, limbs) - hiding


def fewest_vector_limbs(profile: Profile, noise_bits: int, parties: int) -> int:
    """How many limbs a score vector reads: the fewest whose flooding hides its noise."""
    enough = (
        limbs
        for limbs in range(LIMBS_MIN, profile.limbs)
        if noise_bits <= vector_capacity_bits(parties, profile, limbs)
    )
    return next(enough, profile.limbs)


def private_score_noise_bits(columns: int, parties: int) -> int:
    """Noise of a masked score block of profile M whose points are ciphertexts."""
    mask = DEEP.plain_modulus**2 * DEEP.slots // 12
    growth = root_bits(parties**2 * columns)
    return DEEP.noise_bits[1] + TAIL_BITS + growth + root_bits(mask)


def selector_check_noise_bits(choices: int, parties: int) -> int:
    """Noise of a check of selectors: a sum of squares, each weighted with a number modulo t."""
    growth = root_bits(TAIL_SQUARED * parties**2 * choices)
    return DEEP.noise_bits[1] + growth + bits(DEEP.plain_modulus)


def output_noise_bits(profile: Profile, terms: tuple[Term, ...], blocks: int, parties: int) -> int:
    """Noise of one output, summed over all blocks.

    A term with fewer factors is at most as noisy as one with more.
    """
    degree = max(len(term.factors) for term in terms)
    weights = 0
    for term in terms:
        growth = 1
        for form in term.factors:
            growth *= max(1, form.squared_weight())
        named = [name for form in term.factors for name in form.columns]
        # A column times itself: its coefficients meet in equal pairs, which doubles variance.
        weights += growth * 2 ** (len(named) - len(set(named)))
    variance: int = parties**degree * blocks * weights
    return profile.noise_bits[degree - 1] + root_bits(TAIL_SQUARED * variance)


def score_noise_bits(points: LinearForm, parties: int) -> int:
    """Noise of a masked score block."""
    growth = root_bits(parties * points.squared_weight())
    return SCORES.noise_bits[0] + TAIL_BITS + growth + MASK_BITS


def check_noise(noise_bits: int, capacity_bits: int, profile: Profile, subject: str) -> None:
    """Refuse a plan whose noise flooding would not hide.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` with both figures.
    """
    if noise_bits > capacity_bits:
        raise ClientFault(
            "PLAN_TOO_DEEP",
            f"noise of {noise_bits} bits against {capacity_bits} that flooding hides on "
            f"{profile.limbs} limbs of profile {profile.name}",
            subject=subject,
            fix="use smaller weights or a condition on one column"
            + ("" if profile is DEEP else f", or store the columns in profile {DEEP.name}"),
        )


def check_degree(degree: int, profile: Profile, parties: int, subject: str, advice: str) -> None:
    """Refuse more factors than the profile multiplies.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` with the degree and its noise.
    """
    if degree > profile.factors_max():
        step = profile.noise_bits[-1] - profile.noise_bits[-2]
        noise = profile.noise_bits[-1] + (degree - profile.factors_max()) * step
        raise ClientFault(
            "PLAN_TOO_DEEP",
            f"degree {degree}, at least {noise} noise bits; profile {profile.name} multiplies "
            f"{profile.factors_max()} factors and flooding hides "
            f"{scalar_capacity_bits(profile, parties)} bits",
            subject=subject,
            fix=advice,
        )


def check_range(minimum: int, maximum: int, profile: Profile, subject: str) -> None:
    """Refuse an answer that might wrap around the plaintext modulus.

    Raises:
        ClientFault: `PLAN_OVERFLOW` with the range and t.
    """
    if maximum - minimum >= profile.plain_modulus:
        raise ClientFault(
            "PLAN_OVERFLOW",
            f"the answer may lie anywhere in {minimum}..{maximum}, wider than t = "
            f"{profile.plain_modulus} of profile {profile.name}",
            subject=subject,
            fix="use a smaller factor, or set value_limb_bits = 16 in the schema",
        )
