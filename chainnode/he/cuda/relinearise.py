"""Relinearisation on a device: the algorithm and the bytes of crates/chain-he/src/relin.rs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from chainnode.he.cuda.device import WORD_BYTES, Buffer, Device
from chainnode.he.cuda.ring import DeviceRing

# Stages of a transform that one launch takes through registers.
_STAGES_MAX: Final = 4
_SKIPPED: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a ring's degree that are transformed together.

    Args:
        words: where they lie.
        count: how many.
        limbs: a u32 each, the prime's number or 2^32 - 1 where nothing is to be done.
    """

    words: Buffer
    count: int
    limbs: Buffer


def forward(device: Device, ring: DeviceRing, rows: Rows) -> None:
    """Coefficients below four times the prime to canonical values, in place."""
    _transform(device, ring, rows, "forward", ring.roots)


def inverse(device: Device, ring: DeviceRing, rows: Rows) -> None:
    """Canonical values to canonical coefficients, in place."""
    _transform(device, ring, rows, "inverse", ring.inverse_roots, ring.degree_inverses)


def _transform(device: Device, ring: DeviceRing, rows: Rows, kernel: str, *tables: Buffer) -> None:
    """All stages. Where the next ones begin is 2 to the number of those done: the groups of a
    forward transform, the gap of an inverse one."""
    begin = 1
    while begin < ring.degree:
        stages = min(_STAGES_MAX, (ring.degree // begin).bit_length() - 1)
        is_last = begin << stages == ring.degree
        device.launch(
            f"{kernel}_{stages}",
            rows.count * ring.degree >> stages,
            *(rows.count, ring.degree, begin, int(is_last)),
            *(rows.limbs, *tables, ring.primes, rows.words),
        )
        begin <<= stages


class Relinearisation:
    """Relinearises with one key that stays on the device.

    Args:
        device: computes.
        ring: the profile's tables there.
        key: the council's relinearisation key.

    Raises:
        ValueError: the key is not one of this profile.
        DeviceFaultError: what the device raises, here and in `apply`.
    """

    def __init__(self, device: Device, ring: DeviceRing, key: bytes) -> None:
        rows = len(ring.moduli) * 2 * ring.all_limbs
        if len(key) != rows * ring.degree * WORD_BYTES:
            raise ValueError("the relinearisation key has another length")
        self._device, self._ring = device, ring
        self._key = device.upload(key)
        if not _is_canonical(device, ring, self._key, rows, ring.all_limbs):
            raise ValueError("a residue of the relinearisation key is not below its prime")

    def apply(self, limbs: int, ciphertext: bytes) -> bytes:
        """The ciphertext of two polynomials with the slots of one of three to five.

        Raises:
            ValueError: not such a ciphertext of so many limbs.
        """
        device, ring = self._device, self._ring
        row_bytes = limbs * ring.degree * WORD_BYTES
        polynomials, rest = divmod(len(ciphertext), row_bytes)
        if rest or not 3 <= polynomials <= 5 or not 1 <= limbs <= len(ring.moduli):
            raise ValueError("not a ciphertext of three to five polynomials")
        words = device.upload(ciphertext)
        if not _is_canonical(device, ring, words, polynomials * limbs, limbs):
            raise ValueError("a residue of the ciphertext is not below its prime")
        scratch = _Scratch(device, ring, limbs)
        polynomial = limbs * ring.degree
        # From the top down, c_d s^d = (c_d s^2) s^(d-2).
        for top in range(polynomials - 1, 1, -1):
            values = words.words_from(top * polynomial, polynomial)
            self._switch(
                limbs, values, words.words_from((top - 2) * polynomial, 2 * polynomial), scratch
            )
        return device.download(words.words_from(0, 2 * polynomial)).tobytes()

    def _switch(self, limbs: int, values: Buffer, target: Buffer, scratch: _Scratch) -> None:
        """Add (b, a) with b + a s = values s^2 to the two polynomials of `target`."""
        device, ring, degree = self._device, self._ring, self._ring.degree
        sizes = degree, limbs, ring.all_limbs
        device.launch("copy_words", limbs * degree, limbs * degree, values, scratch.digits.words)
        inverse(device, ring, scratch.digits)
        device.launch(
            "spread",
            (limbs + 1) * limbs * degree,
            *(degree, limbs, scratch.digits.words, values, scratch.lifted.words),
        )
        forward(device, ring, scratch.lifted)
        device.launch(
            "multiply_key",
            2 * (limbs + 1) * degree,
            *(*sizes, scratch.lifted.words, self._key, ring.primes, scratch.sums.words),
        )
        inverse(device, ring, scratch.sums)
        device.launch(
            "special_correction",
            2 * limbs * degree,
            *(*sizes, scratch.sums.words, ring.plain, ring.inverse_plain, ring.primes),
            scratch.correction.words,
        )
        forward(device, ring, scratch.correction)
        device.launch(
            "add_divided",
            2 * limbs * degree,
            *(degree, limbs, scratch.sums.words, scratch.correction.words),
            *(ring.special_inverses, ring.primes, target),
        )


class _Scratch:
    """Room for one key switch: digits [digit], lifted [limb][digit], sums [2][limb], the special
    prime last, and the correction [2][limb]."""

    def __init__(self, device: Device, ring: DeviceRing, limbs: int) -> None:
        special = ring.all_limbs - 1
        data = list(range(limbs))

        def rows(numbers: list[int]) -> Rows:
            return Rows(
                device.empty(len(numbers) * ring.degree),
                len(numbers),
                device.upload(np.array(numbers, np.uint32)),
            )

        self.digits = rows(data)
        # A digit is in transformed form in its own limb already.
        self.lifted = rows(
            [_SKIPPED if digit == limb else limb for limb in data for digit in data]
            + [special] * limbs
        )
        # Only what is modulo the special prime is needed as coefficients.
        self.sums = rows(([_SKIPPED] * limbs + [special]) * 2)
        self.correction = rows(data * 2)


def _is_canonical(device: Device, ring: DeviceRing, words: Buffer, rows: int, limbs: int) -> bool:
    flag = device.upload(np.zeros(1, np.uint64))
    device.launch(
        "out_of_range",
        rows * ring.degree,
        *(rows, ring.degree, limbs, words, ring.primes, flag),
    )
    return not device.download(flag)[0]
