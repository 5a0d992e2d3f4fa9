"""What the device's kernels need to know of a profile: its primes, roots and fixed factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chainnode import _native
from chainnode.he.cuda.device import Buffer, Device
from chainnode.he.profiles import ProfileName


@dataclass(frozen=True, slots=True)
class DeviceRing:
    """A profile's tables on a device, as `kernels.cu` lays them out.

    Args:
        degree: N.
        moduli: data primes.
        primes: `Prime` of each data prime and of the special one.
        plain: `Prime` of the plain modulus.
        inverse_plain: P^-1 modulo the plain modulus, one word.
        roots: `Factor` [prime][N] of the forward transform.
        inverse_roots: the same of the inverse one.
        degree_inverses: `Factor` N^-1 of each prime.
        special_inverses: `Factor` P^-1 of each data prime.
    """

    degree: int
    moduli: tuple[int, ...]
    primes: Buffer
    plain: Buffer
    inverse_plain: Buffer
    roots: Buffer
    inverse_roots: Buffer
    degree_inverses: Buffer
    special_inverses: Buffer

    @property
    def all_limbs(self) -> int:
        """Data limbs and the special prime."""
        return len(self.moduli) + 1


def device_ring(device: Device, profile: ProfileName) -> DeviceRing:
    """Put a profile's tables on a device."""
    described = _native.he_profile(profile)
    moduli, special = tuple(described.moduli), described.special_modulus
    every = (*moduli, special)
    degree, plain = described.ring_degree, described.plain_modulus
    roots, inverse_roots = zip(*_native.he_transform_roots(profile), strict=True)

    def words(*values: int) -> Buffer:
        return device.upload(np.array(values, np.uint64))

    return DeviceRing(
        degree=degree,
        moduli=moduli,
        primes=words(*(word for prime in every for word in _prime(prime))),
        plain=words(*_prime(plain)),
        inverse_plain=words(pow(special, -1, plain)),
        roots=device.upload(b"".join(roots)),
        inverse_roots=device.upload(b"".join(inverse_roots)),
        degree_inverses=words(*(word for q in every for word in _factor(pow(degree, -1, q), q))),
        special_inverses=words(*(w for q in moduli for w in _factor(pow(special, -1, q), q))),
    )


def _prime(q: int) -> tuple[int, ...]:
    """The fields of `Prime`."""
    bits = q.bit_length()
    return q, bits - 1, (1 << 63 + bits) // q, (1 << 64) // q, (1 << 64) % q


def _factor(value: int, q: int) -> tuple[int, int]:
    """The fields of `Factor`."""
    return value, (value << 64) // q
