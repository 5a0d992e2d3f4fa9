"""Member certificates, and the identity a process acts under."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chainnode.identity.authority import CLOCK_SKEW, Organisation, key_usage, serial_of
from chainnode.identity.testnet_keys import derive_ed25519, derive_p256
from chainnode.types.codec import address_of
from chainnode.types.errors import ClientFault
from chainnode.types.member import Member, Role

MEMBER_VALIDITY_DAYS: Final = 365
LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Identity:
    """One member's keys and certificates. Secret keys are held here and nowhere else.

    `certificate` is the signing certificate (Ed25519); `tls_certificate_pem` and `tls_key_pem` go
    to gRPC; `ca_bundle_pem` holds the authorities this member accepts from others.
    """

    organisation: str
    role: Role
    name: str
    signing_key: ed25519.Ed25519PrivateKey
    certificate: x509.Certificate
    tls_key: ec.EllipticCurvePrivateKey
    tls_certificate: x509.Certificate
    ca_bundle_pem: bytes

    @property
    def public_key(self) -> bytes:
        """The signing public key, 32 bytes."""
        return self.signing_key.public_key().public_bytes_raw()

    @property
    def address(self) -> bytes:
        """The member's address."""
        return address_of(self.public_key)

    @property
    def certificate_pem(self) -> bytes:
        """The signing certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def tls_certificate_pem(self) -> bytes:
        """The TLS certificate, PEM."""
        return self.tls_certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def tls_key_pem(self) -> bytes:
        """The TLS key in the clear, PEM: for gRPC's credentials, never for a file."""
        return self.tls_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, data: bytes, /) -> bytes:
        """Sign with the member's Ed25519 key: an identity is a `Signer`."""
        return self.signing_key.sign(data)

    def record(self) -> Member:
        """What the chain stores of this member."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return Member(
            public_key=self.public_key,
            organisation=self.organisation,
            role=self.role,
            name=self.name,
            not_before_ms=_milliseconds(self.certificate.not_valid_before_utc),
            not_after_ms=_milliseconds(self.certificate.not_valid_after_utc),
            tls_key_hash=tls_key_hash(self.tls_certificate),
            certificate_hash=hashlib.sha256(der).digest(),
        )


@dataclass(frozen=True, slots=True)
class IssuedKeys:
    """The two private keys of a member, made by the member; the authority sees only public ones."""

    signing: ed25519.Ed25519PrivateKey
    tls: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> IssuedKeys:
        """Fresh random keys."""
        return cls(ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def for_testnet(cls, seed: bytes, organisation: str, name: str) -> IssuedKeys:
        """Keys anyone can derive from the testnet's seed."""
        label = f"{organisation}/{name}"
        return cls(derive_ed25519(seed, f"{label}/sign"), derive_p256(seed, f"{label}/tls"))


def issue_member(
    organisation: Organisation,
    name: str,
    role: Role,
    *,
    keys: IssuedKeys | None = None,
    hosts: tuple[str, ...] = LOOPBACK_NAMES,
    not_before: datetime | None = None,
    validity_days: int = MEMBER_VALIDITY_DAYS,
    ca_bundle_pem: bytes = b"",
) -> Identity:
    """Issue a member's signing and TLS certificates.

    Args:
        organisation: the issuing authority.
        name: unique within the organisation, e.g. `node`.
        role: what the member may do; the chain's state decides, the certificate only shows it.
        keys: the member's keys; fresh ones unless given.
        hosts: host names and addresses of its TLS endpoint.
        not_before: start of validity; five minutes ago unless given.
        validity_days: length of validity.
        ca_bundle_pem: authorities it accepts; the issuing one is always among them.
    """
    made = keys or IssuedKeys.generate()
    start = not_before or datetime.now(UTC) - CLOCK_SKEW
    end = start + timedelta(days=validity_days)
    signing = _certificate(organisation, name, role, made.signing.public_key(), start, end, None)
    tls = _certificate(organisation, name, role, made.tls.public_key(), start, end, hosts)
    own = organisation.certificate_pem
    return Identity(
        organisation=organisation.id,
        role=role,
        name=name,
        signing_key=made.signing,
        certificate=signing,
        tls_key=made.tls,
        tls_certificate=tls,
        ca_bundle_pem=ca_bundle_pem if own in ca_bundle_pem else own + ca_bundle_pem,
    )


def check_certificate(
    certificate: x509.Certificate, authority: x509.Certificate, now: datetime
) -> None:
    """Accept a certificate that `authority` issued and that is valid at `now`, or raise.

    Raises:
        ClientFault: `CERTIFICATE_UNTRUSTED`, `CERTIFICATE_NOT_YET_VALID`, `CERTIFICATE_EXPIRED`.
    """
    subject = certificate.subject.rfc4514_string()
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ClientFault(
            "CERTIFICATE_UNTRUSTED",
            f"not issued by {authority.subject.rfc4514_string()}",
            subject=subject,
            fix="have the organisation's authority issue it",
        ) from error
    check_validity(certificate, now)


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate outside its time.

    Raises:
        ClientFault: `CERTIFICATE_NOT_YET_VALID`, `CERTIFICATE_EXPIRED`.
    """
    subject = certificate.subject.rfc4514_string()
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        raise ClientFault(
            "CERTIFICATE_NOT_YET_VALID",
            f"valid from {start:%Y-%m-%d %H:%M} UTC",
            subject=subject,
            fix="check this machine's clock",
        )
    if now > end:
        raise ClientFault(
            "CERTIFICATE_EXPIRED",
            f"expired on {end:%Y-%m-%d %H:%M} UTC",
            subject=subject,
            fix="renew it with the organisation's authority: chainnode cert renew",
        )


def tls_key_hash(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a TLS certificate's SubjectPublicKeyInfo: what the member record pins."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()


def _certificate(
    organisation: Organisation,
    name: str,
    role: Role,
    public_key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    start: datetime,
    end: datetime,
    tls_hosts: tuple[str, ...] | None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation.id),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.name.lower()),
                    x509.NameAttribute(NameOID.COMMON_NAME, name),
                ]
            )
        )
        .issuer_name(organisation.certificate.subject)
        .public_key(public_key)
        .serial_number(serial_of(public_key, start.isoformat().encode()))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(organisation.key.public_key()),
            critical=False,
        )
    )
    if tls_hosts is not None:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = x509.SubjectAlternativeName([_host(host) for host in tls_hosts])
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(names, critical=False)
    return builder.sign(organisation.key, hashes.SHA256(), ecdsa_deterministic=True)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
