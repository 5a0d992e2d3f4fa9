"""What the homomorphic benchmarks share: SEAL at our parameters, medians, the comparison."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chainnode import _native as native

Slots = npt.NDArray[np.uint64]


def medians(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Processor seconds of this thread per action, taken in turn.

    On an idle machine that is wall time; on a shared one it leaves out the time others ran, which
    hits a long action (a library's) more surely than a short one (ours).
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    for _ in range(rounds):
        for name, action in actions.items():
            start = time.thread_time()
            action()
            times[name].append(time.thread_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


class Exact:
    """Counts what was compared with the plaintext or with other bytes, and what differed."""

    def __init__(self) -> None:
        self.compared = 0
        self.mismatches = 0
        self.differing: list[str] = []

    def slots(self, got: bytes | Sequence[int], expected: Slots, what: str) -> None:
        """Compare decrypted slots, each one value."""
        values = np.frombuffer(got, "<u8") if isinstance(got, bytes) else np.asarray(got, "<u8")
        self._count(expected.size, int((values != expected).sum()), what)

    def value(self, got: object, expected: object, what: str) -> None:
        """Compare one answer, or the bytes of one result."""
        self._count(1, int(got != expected), what)

    def _count(self, compared: int, mismatches: int, what: str) -> None:
        self.compared += compared
        self.mismatches += mismatches
        if mismatches and what not in self.differing:
            self.differing.append(what)


class Seal:
    """SEAL with one key, at our ring and plain modulus."""

    def __init__(self, seal: Any, scheme: Any, profile: native.HeProfile, folder: Path) -> None:
        primes = [*profile.moduli, profile.special_modulus]
        bits = [prime.bit_length() for prime in primes]
        parameters = seal.EncryptionParameters(scheme)
        parameters.set_poly_modulus_degree(profile.ring_degree)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(profile.ring_degree, bits))
        parameters.set_plain_modulus(profile.plain_modulus)
        self.library = seal
        self.context = seal.SEALContext(parameters)
        keys = seal.KeyGenerator(self.context)
        self.relin_keys = keys.create_relin_keys()
        self.encoder = seal.BatchEncoder(self.context)
        self.encryptor = seal.Encryptor(self.context, keys.create_public_key())
        self.decryptor = seal.Decryptor(self.context, keys.secret_key())
        self.evaluator = seal.Evaluator(self.context)
        self.folder = folder
        self.modulus = profile.plain_modulus

    def encrypt(self, values: Slots, dropped: int = 0) -> Any:
        ciphertext = self.encryptor.encrypt(self.encoder.encode([int(v) for v in values]))
        for _ in range(dropped):
            self.evaluator.mod_switch_to_next_inplace(ciphertext)
        return ciphertext

    def constant(self, weight: int) -> Any:
        """The same value in every slot is a constant polynomial: the cheapest encoding."""
        return self.library.Plaintext(f"{weight % self.modulus:x}")

    def store(self, name: str, ciphertext: Any) -> str:
        path = str(self.folder / name)
        ciphertext.save(path, self.library.compr_mode_type.none)
        return path

    def load(self, path: str) -> Any:
        ciphertext = self.library.Ciphertext()
        ciphertext.load(self.context, path)
        return ciphertext

    def decrypt(self, ciphertext: Any) -> Sequence[int]:
        values: Sequence[int] = self.encoder.decode_uint64(self.decryptor.decrypt(ciphertext))
        return values

    def weighted(self, ciphertexts: Sequence[Any], plains: Sequence[Any]) -> Any:
        total = self.evaluator.multiply_plain(ciphertexts[0], plains[0])
        for ciphertext, plain in zip(ciphertexts[1:], plains[1:], strict=True):
            self.evaluator.add_inplace(total, self.evaluator.multiply_plain(ciphertext, plain))
        return total


def seeds(count: int) -> list[bytes]:
    return [os.urandom(32) for _ in range(count)]
