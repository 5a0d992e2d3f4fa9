"""Known answers of the homomorphic engine: everything follows from SHAKE-128 of a label.

`python tests/he/he_vectors.py` writes `tests/vectors/he.json`. The bytes may change only with a new
domain string: ciphertexts, shares and result hashes of running chains depend on them.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chainnode import _native as native

PATH = Path(__file__).parents[1] / "vectors" / "he.json"
PROFILES = ("S", "S36", "M")
Vector = dict[str, object]


def drawn(label: str, modulus: int, count: int) -> npt.NDArray[np.uint64]:
    """Words below a modulus; the bias does not matter here."""
    data = hashlib.shake_128(label.encode()).digest(8 * count)
    return np.frombuffer(data, "<u8") % np.uint64(modulus)


def residues(label: str, moduli: list[int], polynomials: int, degree: int) -> bytes:
    rows = [
        drawn(f"{label}/{polynomial}/{limb}", modulus, degree)
        for polynomial in range(polynomials)
        for limb, modulus in enumerate(moduli)
    ]
    return np.concatenate(rows).astype("<u8").tobytes()


def secret_key(name: str, degree: int) -> native.HeSecretKey:
    """A ternary secret through the sealed form, with a fixed nonce."""
    digits = drawn(f"{name}/secret", 3, degree).astype(np.uint8).tobytes()
    nonce, key = bytes(12), bytes(32)
    domain = b"chainnode/he-secret-key/v1/" + name.encode()
    sealed = nonce + ChaCha20Poly1305(key).encrypt(nonce, digits, domain)
    return native.HeSecretKey.unseal(name, sealed, key)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def vector(name: str) -> Vector:
    """The parameters of a profile and the hashes of what its functions give."""
    profile = native.he_profile(name)
    moduli, degree, limbs = profile.moduli, profile.ring_degree, len(profile.moduli)
    secret = secret_key(name, degree)
    public_key = residues(f"{name}/public key", moduli, 2, degree)
    full = [*moduli, profile.special_modulus]
    relin_key = residues(f"{name}/relin key", full, 2 * limbs, degree)
    slots = drawn(f"{name}/slots", profile.plain_modulus, degree).astype("<u8").tobytes()
    fresh = native.he_encrypt(name, public_key, slots, bytes(range(32)), limbs)
    factors = [[(1, [fresh]), (-3, [fresh])]] * profile.factors_max
    product = native.he_stepwise_sum(name, limbs, factors)
    closed = native.he_relinearise(name, limbs, product, relin_key)
    scalar = secret.scalar_share(closed, limbs, b"flood", 4)
    switch = secret.key_switch_share(fresh, limbs, public_key, b"flood", 4)
    return {
        "profile": name,
        "ring_degree": degree,
        "plain_modulus": profile.plain_modulus,
        "moduli": moduli,
        "special_modulus": profile.special_modulus,
        "factors_max": profile.factors_max,
        "encrypt": digest(fresh),
        "multiply_plain": digest(native.he_multiply_plain(name, limbs, fresh, slots)),
        "add_plain": digest(native.he_add_plain(name, limbs, fresh, slots)),
        "product": digest(product),
        "relinearise": digest(closed),
        "decrypt": digest(secret.decrypt(product, limbs)),
        "scalar_share": scalar.hex(),
        "key_switch_share": digest(switch),
        "combine_scalar": list(native.he_combine_scalar(name, limbs, closed, [scalar])),
        "combine_key_switch": digest(native.he_combine_key_switch(name, limbs, fresh, [switch])),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps([vector(name) for name in PROFILES], indent=1) + "\n")
