"""Rule 5, degree and noise: refuse what the modulus cannot carry, and say by how much.

Noise bits start from the measured size of a fresh encryption and of one relinearised product
(reference table of the profiles; the measured maximum over 8,192 coefficients is about 4 standard
deviations). Worst-case growth is added for weights, blocks and the members of a joint key, then
flooding as the key council applies it (Li, Micciancio, Schultz and Sorrell, CRYPTO 2022), and a
tail that brings failure to at most 2^-128 (13.4 standard deviations).
"""

from __future__ import annotations

from typing import Final

from chainnode.he.plan import LinearForm, Term
from chainnode.he.profiles import AGGREGATES, SCORES, Profile
from chainnode.types.errors import ClientFault

DEGREE_MAX: Final = 2
TAIL_BITS: Final = 2
MASK_BITS: Final = 22
"""A 0/1 mask as a plaintext polynomial: sqrt(N) x t / sqrt(12), rounded up, plus one."""

SCALAR_FLOOD_BITS: Final = 45
VECTOR_FLOOD_BITS: Final = 51
"""sqrt(24 n alpha) x 2^(s/2) for s = 64, alpha = 2^16, n = 1 or 8,192, plus tail."""


def bits(value: int) -> int:
    """The smallest b with value <= 2^b."""
    return max(0, (value - 1).bit_length())


def term_noise_bits(term: Term, blocks: int, parties: int) -> int:
    """Noise of one term summed over all blocks, before flooding."""
    members = bits(parties)
    growth = bits(blocks) + bits(term.left.absolute_weight())
    if term.right is None:
        return AGGREGATES.fresh_noise_bits + TAIL_BITS + members + growth
    growth += bits(term.right.absolute_weight())
    return AGGREGATES.product_noise_bits + 2 * TAIL_BITS + 2 * members + growth


def output_noise_bits(terms: tuple[Term, ...], blocks: int, parties: int) -> int:
    """Noise of an output, before flooding."""
    largest = max(term_noise_bits(term, blocks, parties) for term in terms)
    return largest + bits(len(terms))


def released_sum_bits(noise_bits: int, parties: int) -> int:
    """Noise of an opened scalar, flooding of all members included."""
    return noise_bits + SCALAR_FLOOD_BITS + bits(parties)


def released_score_bits(points: LinearForm, parties: int) -> int:
    """Noise of a masked score vector after the collective key switch."""
    noise = SCORES.fresh_noise_bits + TAIL_BITS + bits(parties) + bits(points.absolute_weight())
    return noise + MASK_BITS + VECTOR_FLOOD_BITS + bits(parties)


def check_noise(noise_bits: int, profile: Profile, subject: str) -> None:
    """Refuse a plan whose noise could reach the modulus.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` with both figures.
    """
    if noise_bits >= profile.capacity_bits():
        raise ClientFault(
            "PLAN_TOO_DEEP",
            f"noise of {noise_bits} bits against {profile.capacity_bits()} that profile "
            f"{profile.name} carries on {profile.limbs} limbs",
            subject=subject,
            fix="use smaller weights, fewer blocks or a condition on one column",
        )


def check_degree(degree: int, subject: str, advice: str) -> None:
    """Refuse more factors than the profile multiplies.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` with the degree and its noise.
    """
    if degree > DEGREE_MAX:
        step = AGGREGATES.product_noise_bits - AGGREGATES.fresh_noise_bits
        noise = AGGREGATES.product_noise_bits + (degree - DEGREE_MAX) * step + SCALAR_FLOOD_BITS
        raise ClientFault(
            "PLAN_TOO_DEEP",
            f"degree {degree}, at least {noise} noise bits with flooding; profile S36 multiplies "
            f"{DEGREE_MAX} factors and carries {AGGREGATES.capacity_bits()} bits",
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
