"""Makes paillier.json with `phe` 1.5.0 (pip install phe), an independent Paillier library.

Keys are fresh on every run; every number is hexadecimal, big-endian, of its full width.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from phe import paillier  # type: ignore[import-not-found, import-untyped, unused-ignore]

FACTORS = [0, 1, -1, 2, 600, -7, 2**31, -(2**63), 2**127 - 1, -(2**127)]


def vectors(bits: int, rng: random.Random) -> dict[str, Any]:
    """Encryptions with known randomness and everything computed from them."""
    public, secret = paillier.generate_paillier_keypair(n_length=bits)
    n = public.n
    width = bits // 8

    def shown(number: int, count: int = 2) -> str:
        return number.to_bytes(count * width, "big").hex()

    plain = [0, 1, n - 1, rng.randrange(n), rng.randrange(n)]
    ciphertexts = [public.raw_encrypt(m, r_value=rng.randrange(1, n)) for m in plain]
    held = [paillier.EncryptedNumber(public, c) for c in ciphertexts]
    return {
        "bits": bits,
        "public_key": shown(n, 1),
        "secret_key": (
            secret.p.to_bytes(width // 2, "big") + secret.q.to_bytes(width // 2, "big")
        ).hex(),
        "encryptions": [
            {"plaintext": shown(m, 1), "ciphertext": shown(c)}
            for m, c in zip(plain, ciphertexts, strict=True)
        ],
        "add": [
            {"left": i, "right": j, "result": shown(held[i]._raw_add(held[i].ciphertext(False), c))}
            for i in range(len(plain))
            for j, c in enumerate(ciphertexts)
            if j >= i
        ],
        "add_plain": [
            {
                "left": 3,
                "value": str(value),
                "result": shown(
                    held[3]._raw_add(ciphertexts[3], public.raw_encrypt(value % n, r_value=1))
                ),
            }
            for value in FACTORS
        ],
        "scalar_multiply": [
            {"left": 4, "value": str(value), "result": shown(held[4]._raw_mul(value % n))}
            for value in FACTORS
        ],
    }


if __name__ == "__main__":
    made = [vectors(bits, random.Random(bits)) for bits in (2048, 3072)]
    target = Path(__file__).with_name("paillier.json")
    target.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
