"""Paillier keys and ciphertexts: additive encryption under one owner's key (EUROCRYPT 1999).

Bytes as contracts take them: big-endian, a key 256 or 384, a ciphertext 512 or 768. The numbers in
Rust use constant-time code where they are secret (primes, exponents, blinding); Python's integers,
which hold plaintexts here, do not: measure nothing secret by how long these calls take.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chainnode import _native
from chainnode.sdk.sealed_files import read_or_write
from chainnode.types.errors import ClientFault, ConfigError

KEY_SIZE_BITS = 3072
"""Size of new keys; 2,048 is the other one."""


class PaillierPublicKey:
    """What anyone may encrypt and compute with.

    Args:
        data: n, 256 or 384 bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        n = int.from_bytes(data, "big")
        if len(data) not in (256, 384) or n % 2 == 0 or n.bit_length() != 8 * len(data):
            raise ClientFault(
                "PAILLIER_KEY_INVALID",
                f"{n.bit_length()} bits in {len(data)} bytes",
                fix="a key is an odd number of exactly 2048 or 3072 bits, big-endian",
            )
        self._n = n

    @property
    def limit(self) -> int:
        """Largest number that can be encrypted; the smallest is its negative."""
        return (self._n - 1) // 2

    def encrypt(self, value: int) -> bytes:
        """A fresh ciphertext of a whole number.

        Raises:
            ClientFault: `PAILLIER_RANGE` when it is larger than `limit` in size.
        """
        if abs(value) > self.limit:
            raise ClientFault(
                "PAILLIER_RANGE",
                f"a number of {value.bit_length()} bits",
                fix="encrypt numbers of less than half the key",
            )
        plaintext = (value % self._n).to_bytes(len(self.data), "big")
        return _native.paillier_encrypt(self.data, plaintext)

    def add(self, left: bytes, right: bytes) -> bytes:
        """The ciphertext of the sum of two ciphertexts' numbers.

        Raises:
            ClientFault: `PAILLIER_CIPHERTEXT_INVALID`, as of every method below.
        """
        return _checked(lambda: _native.paillier_add(self.data, left, right))

    def add_plain(self, ciphertext: bytes, value: int) -> bytes:
        """The ciphertext of the number plus a known one of 128 bits."""
        return _checked(lambda: _native.paillier_add_plain(self.data, ciphertext, _wide(value)))

    def subtract(self, left: bytes, right: bytes) -> bytes:
        """The ciphertext of the difference of two ciphertexts' numbers."""
        return self.add(left, self.scalar_multiply(right, -1))

    def subtract_plain(self, ciphertext: bytes, value: int) -> bytes:
        """The ciphertext of the number minus a known one of 127 bits."""
        return self.add_plain(ciphertext, -value)

    def scalar_multiply(self, ciphertext: bytes, factor: int) -> bytes:
        """The ciphertext of the number times a known one of 128 bits."""
        return _checked(
            lambda: _native.paillier_scalar_multiply(self.data, ciphertext, _wide(factor))
        )


class PaillierSecretKey:
    """The owner's key.

    Args:
        data: the primes p and q, each of half a key's width.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        try:
            self.public = PaillierPublicKey(_native.paillier_public_key(data))
        except ValueError as error:
            raise ConfigError(
                "PAILLIER_SECRET_INVALID", str(error), fix="restore the key file from its backup"
            ) from None

    @staticmethod
    def generate(bits: int = KEY_SIZE_BITS) -> PaillierSecretKey:
        """A new key of the operating system's randomness."""
        return PaillierSecretKey(_new(bits))

    @staticmethod
    def load(path: Path, bits: int = KEY_SIZE_BITS) -> PaillierSecretKey:
        """The key kept in a file of mode 0600, made at first use."""
        return PaillierSecretKey(read_or_write(path, lambda: _new(bits)))

    def decrypt(self, ciphertext: bytes) -> int:
        """The number, negative ones included.

        Raises:
            ClientFault: `PAILLIER_CIPHERTEXT_INVALID`.
        """
        data = _checked(lambda: _native.paillier_decrypt(self._data, ciphertext))
        value = int.from_bytes(data, "big")
        n = int.from_bytes(self.public.data, "big")
        return value - n if value > self.public.limit else value


def _new(bits: int) -> bytes:
    if bits not in (2048, 3072):
        raise ClientFault("PAILLIER_KEY_INVALID", f"{bits} bits", fix="take 2048 or 3072")
    return _native.paillier_generate(bits)[1]


def _wide(value: int) -> int:
    if not -(2**127) <= value < 2**127:
        raise ClientFault(
            "PAILLIER_RANGE",
            f"a public number of {value.bit_length()} bits",
            fix="known addends and factors have at most 127 bits and a sign",
        )
    return value


def _checked(compute: Callable[[], bytes]) -> bytes:
    try:
        return compute()
    except ValueError as error:
        raise ClientFault(
            "PAILLIER_CIPHERTEXT_INVALID",
            str(error),
            fix="pass a ciphertext under this key, 512 or 768 bytes",
        ) from None
