"""What an engine computes on: passes over encrypted columns, and relinearisation.

`NativeKernels` runs them on this machine's processor. Others, as `chainnode.he.cuda`, must give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from chainnode import _native
from chainnode.he.profiles import ProfileName

if TYPE_CHECKING:
    from chainnode._native import HeColumns

Factor = tuple[Sequence[str], Sequence[int], int]
"""Columns, a signed weight of each, and a constant added to every slot."""
Term = Sequence[Factor]
"""Factors to multiply: one to four."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Which part of columns is read.

    Args:
        profile: the columns' ring.
        limbs: how many leading limbs.
        first: first block, counted within the columns.
        count: number of blocks.
    """

    profile: ProfileName
    limbs: int
    first: int
    count: int


class Kernels(Protocol):
    """The computations of an engine; every implementation gives the same bytes."""

    def weighted(
        self,
        columns: HeColumns,
        names: Sequence[str],
        weights: Sequence[Sequence[int]],
        part: Pass,
    ) -> list[list[bytes]]:
        """Per row of signed weights one ciphertext a block: the weighted sum of the columns.

        Raises:
            ValueError: the columns have no such part.
            HeCorruptColumn: a file changed under the computation.
        """
        ...

    def sums(self, columns: HeColumns, outputs: Sequence[Sequence[Term]], part: Pass) -> bytes:
        """The container of each output's sum over terms and blocks, not relinearised.

        Raises:
            ValueError: the columns have no such part, or a term is deeper than the profile.
            HeCorruptColumn: a file changed under the computation.
        """
        ...

    def relinearise(
        self, profile: ProfileName, limbs: int, ciphertext: bytes, relin_key: bytes
    ) -> bytes:
        """The ciphertext of two polynomials with the slots of one of three to five.

        Raises:
            ValueError: ciphertext or key is malformed.
        """
        ...


class NativeKernels:
    """The kernels of this machine's processor.

    Args:
        threads: that a pass may use; never changes a byte of the result.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def weighted(
        self,
        columns: HeColumns,
        names: Sequence[str],
        weights: Sequence[Sequence[int]],
        part: Pass,
    ) -> list[list[bytes]]:
        """See `Kernels.weighted`."""
        return columns.mac_scalar(names, weights, part.limbs, part.first, part.count, self._threads)

    def sums(self, columns: HeColumns, outputs: Sequence[Sequence[Term]], part: Pass) -> bytes:
        """See `Kernels.sums`."""
        return columns.sums(outputs, part.limbs, part.first, part.count, self._threads)

    def relinearise(
        self, profile: ProfileName, limbs: int, ciphertext: bytes, relin_key: bytes
    ) -> bytes:
        """See `Kernels.relinearise`."""
        return _native.he_relinearise(profile, limbs, ciphertext, relin_key)
