"""Keys from a seed, for testnets only: whoever knows the seed owns every key made from it."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chainnode.types.errors import ConfigError

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def derive_bytes(seed: bytes, label: str, length: int = 32) -> bytes:
    """HKDF-SHA256 of a testnet's seed under a label that names one use (RFC 5869)."""
    if len(seed) < 16:
        raise ConfigError(
            "SEED_TOO_SHORT", f"{len(seed)} bytes", subject="seed", fix="give at least 16 bytes"
        )
    info = b"chainnode/testnet-key/v1/" + label.encode()
    return HKDF(hashes.SHA256(), length, salt=None, info=info).derive(seed)


def derive_ed25519(seed: bytes, label: str) -> ed25519.Ed25519PrivateKey:
    """A signing key of a testnet."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(derive_bytes(seed, label))


def derive_p256(seed: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """A TLS or authority key of a testnet."""
    # 16 bytes above the order's size make the bias of the reduction negligible.
    scalar = int.from_bytes(derive_bytes(seed, label, 48), "big") % (P256_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())
