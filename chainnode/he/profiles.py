"""The named parameter sets the planner chooses from, by value.

The native library owns the rings; these numbers are repeated so that a plan can be made (and its
hash checked) without any key or column, and a test compares the two tables.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

ProfileName = Literal["S", "S36", "M"]


class Profile(msgspec.Struct, frozen=True):
    """What the planner needs to know of one ring (reference: Homomorphic Encryption Standard 2018).

    Args:
        name: profile name as the native library spells it.
        slots: values in a block.
        plain_modulus: t; every answer must be provably smaller than this.
        limb_bits: size of each data limb of Q.
        limbs: how many leading limbs a stored column keeps; a plan reads as many as it needs.
        noise_bits: measured noise of a relinearised product of 1, 2, .. factors under one key, as
            deep as the stored limbs carry.
    """

    name: ProfileName
    slots: int
    plain_modulus: int
    limb_bits: tuple[int, ...]
    limbs: int
    noise_bits: tuple[int, ...]

    def factors_max(self) -> int:
        """Columns that the deepest product multiplies."""
        return len(self.noise_bits)

    def modulus_bits(self, limbs: int = 0) -> int:
        """Bits of the modulus that so many leading limbs carry; 0 means all stored ones."""
        return sum(self.limb_bits[: limbs or self.limbs])


SCORES: Final = Profile("S", 8192, 65_537, (42, 42, 42, 43), 3, (28,))
AGGREGATES: Final = Profile("S36", 8192, 68_719_230_977, (42, 42, 42, 43), 4, (48, 99))
DEEP: Final = Profile("M", 16_384, 68_718_428_161, (43,) * 7, 7, (49, 101, 153, 206))

PROFILES: Final[dict[ProfileName, Profile]] = {"S": SCORES, "S36": AGGREGATES, "M": DEEP}
SUMS: Final = (AGGREGATES, DEEP)
"""Profiles of counts and sums, the cheaper first."""
