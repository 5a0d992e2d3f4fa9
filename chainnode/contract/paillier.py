"""Arithmetic on Paillier ciphertexts as contracts write it, in plain integers (EUROCRYPT 1999).

On chain the host computes the same bytes: docs/spec/contract-vm.md. Everything here is public.
"""

from __future__ import annotations

from math import gcd
from typing import Final

KEY_SIZES_BYTES: Final = (256, 384)


class PaillierKeyInvalid(ValueError):
    """The key is not an odd number of exactly 2,048 or 3,072 bits; reverts with that name."""


class PaillierCiphertextInvalid(ValueError):
    """The bytes are no ciphertext under the key; reverts with that name."""


def paillier_add(public_key: bytes, left: bytes, right: bytes) -> bytes:
    """Return the ciphertext of the sum of two ciphertexts' plaintexts.

    Args:
        public_key: n, 256 or 384 bytes, big-endian.
        left: twice as long, as every ciphertext.
    """
    n = _modulus(public_key)
    return _bytes(public_key, _ciphertext(n, left) * _ciphertext(n, right) % n**2)


def paillier_add_plain(public_key: bytes, ciphertext: bytes, value: int) -> bytes:
    """Return the ciphertext of the plaintext plus a number everyone knows."""
    n = _modulus(public_key)
    return _bytes(public_key, _ciphertext(n, ciphertext) * (1 + value % n * n) % n**2)


def paillier_scalar_multiply(public_key: bytes, ciphertext: bytes, factor: int) -> bytes:
    """Return the ciphertext of the plaintext times a number everyone knows."""
    n = _modulus(public_key)
    return _bytes(public_key, pow(_ciphertext(n, ciphertext), factor, n**2))


def _modulus(public_key: bytes) -> int:
    n = int.from_bytes(public_key, "big")
    if len(public_key) not in KEY_SIZES_BYTES or n.bit_length() != 8 * len(public_key) or n % 2 < 1:
        raise PaillierKeyInvalid(f"{len(public_key)} bytes, {n.bit_length()} bits")
    return n


def _ciphertext(n: int, data: bytes) -> int:
    value = int.from_bytes(data, "big")
    if len(data) * 4 != n.bit_length() or not 0 < value < n * n or gcd(value, n) != 1:
        raise PaillierCiphertextInvalid(f"{len(data)} bytes")
    return value


def _bytes(public_key: bytes, value: int) -> bytes:
    return value.to_bytes(2 * len(public_key), "big")
