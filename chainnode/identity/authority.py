"""An organisation's certificate authority: one ECDSA P-256 key that signs member certificates.

The authority signs two kinds: signing certificates (Ed25519 keys, the chain's suite) and TLS
certificates (P-256 keys: what gRPC's TLS library accepts).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from chainnode.identity.testnet_keys import derive_p256
from chainnode.types import member as types

AUTHORITY_VALIDITY_DAYS: Final = 3_650
CLOCK_SKEW: Final = timedelta(minutes=5)
"""New certificates start this much in the past, for machines whose clock is behind."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation that can issue certificates: id, name, key and certificate."""

    id: str
    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def record(self) -> types.Organisation:
        """What the chain stores of it."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return types.Organisation(self.id, self.name, der)


def create_organisation(
    organisation_id: str,
    name: str,
    *,
    testnet_seed: bytes | None = None,
    not_before: datetime | None = None,
) -> Organisation:
    """Make an organisation's authority key and its self-signed certificate.

    Args:
        organisation_id: unique on the chain, e.g. `bank-a`.
        name: for people.
        testnet_seed: derive the key instead of drawing it: testnets only.
        not_before: start of validity; five minutes ago unless given.
    """
    if testnet_seed is None:
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = derive_p256(testnet_seed, f"{organisation_id}/ca")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation_id),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{organisation_id} authority"),
        ]
    )
    start = not_before or datetime.now(UTC) - CLOCK_SKEW
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial_of(key.public_key()))
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=AUTHORITY_VALIDITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(authority_key_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return Organisation(organisation_id, name, key, certificate)


def authority_key_usage() -> x509.KeyUsage:
    """May sign certificates and revocation lists, nothing else."""
    return key_usage(key_cert_sign=True, crl_sign=True)


def key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """A KeyUsage with exactly these bits."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def serial_of(public_key: PublicKey, salt: bytes = b"") -> int:
    """A serial number bound to the key: the same key gives the same certificate."""
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # RFC 5280 4.1.2.2: positive, at most 20 bytes.
    return int.from_bytes(hashlib.sha256(salt + spki).digest()[:19], "big") | 1
