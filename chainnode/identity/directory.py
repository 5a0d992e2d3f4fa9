"""An identity on disk: two keys, two certificates, the accepted authorities and who it is.

identity.json   organisation, role, name
sign.key.pem    Ed25519 key, PKCS #8, encrypted when a passphrase is given
sign.cert.pem
tls.key.pem     P-256 key, likewise
tls.cert.pem
ca.pem          authorities this identity accepts
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from chainnode.identity.authority import Organisation
from chainnode.identity.members import Identity, check_validity
from chainnode.types.errors import ConfigError
from chainnode.types.member import Role

KEY_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def save_identity(
    directory: Path | str, identity: Identity, passphrase: bytes | None = None
) -> None:
    """Write an identity; key files are readable by their owner only.

    Args:
        directory: made if missing; files of an older identity are replaced one by one.
        identity: what to write.
        passphrase: encrypts both keys; None leaves them in the clear.
    """
    target = Path(directory)
    target.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    who = {
        "organisation": identity.organisation,
        "role": identity.role.name.lower(),
        "name": identity.name,
    }
    _write(target / "sign.key.pem", _key_pem(identity.signing_key, passphrase), KEY_MODE)
    _write(target / "tls.key.pem", _key_pem(identity.tls_key, passphrase), KEY_MODE)
    _write(target / "sign.cert.pem", identity.certificate_pem, 0o644)
    _write(target / "tls.cert.pem", identity.tls_certificate_pem, 0o644)
    _write(target / "ca.pem", identity.ca_bundle_pem, 0o644)
    _write(target / "identity.json", json.dumps(who, indent=2).encode() + b"\n", 0o644)


def load_identity(
    directory: Path | str,
    passphrase: bytes | None = None,
    *,
    now: datetime | None = None,
    allow_expired: bool = False,
) -> Identity:
    """Read an identity and check that its parts belong together.

    Args:
        directory: as written by `save_identity`.
        passphrase: of the keys, if they have one.
        now: the moment at which the certificates must be valid; the clock unless given.
        allow_expired: accept certificates outside their time, to renew them.

    Raises:
        ConfigError: `IDENTITY_MISSING`, `KEY_FILE_EXPOSED`, `PASSPHRASE_WRONG`,
            `IDENTITY_MALFORMED`, `IDENTITY_INCONSISTENT`.
        ClientFault: `CERTIFICATE_EXPIRED`, `CERTIFICATE_NOT_YET_VALID`.
    """
    source = Path(directory)
    organisation, role, name = _who(source / "identity.json")
    signing_key = _load_key(source / "sign.key.pem", passphrase)
    tls_key = _load_key(source / "tls.key.pem", passphrase)
    if not isinstance(signing_key, ed25519.Ed25519PrivateKey):
        raise _malformed(source / "sign.key.pem", "is no Ed25519 key")
    if not isinstance(tls_key, ec.EllipticCurvePrivateKey):
        raise _malformed(source / "tls.key.pem", "is no P-256 key")
    identity = Identity(
        organisation=organisation,
        role=role,
        name=name,
        signing_key=signing_key,
        certificate=_load_certificate(source / "sign.cert.pem"),
        tls_key=tls_key,
        tls_certificate=_load_certificate(source / "tls.cert.pem"),
        ca_bundle_pem=_read(source / "ca.pem"),
    )
    pairs = (
        (identity.certificate, signing_key, "sign.cert.pem"),
        (identity.tls_certificate, tls_key, "tls.cert.pem"),
    )
    for certificate, key, file_name in pairs:
        if certificate.public_key() != key.public_key():
            raise ConfigError(
                "IDENTITY_INCONSISTENT",
                "the certificate is for another key",
                subject=str(source / file_name),
                fix="issue the identity again",
            )
        if not allow_expired:
            check_validity(certificate, now or datetime.now(UTC))
    return identity


def save_organisation(
    directory: Path | str, organisation: Organisation, passphrase: bytes | None = None
) -> None:
    """Write an authority; its key is readable by its owner only.

    Args:
        directory: made if missing.
        organisation: what to write.
        passphrase: encrypts the key; None leaves it in the clear.
    """
    target = Path(directory)
    target.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    who = {"id": organisation.id, "name": organisation.name}
    _write(target / "ca.key.pem", _key_pem(organisation.key, passphrase), KEY_MODE)
    _write(target / "ca.cert.pem", organisation.certificate_pem, 0o644)
    _write(target / "organisation.json", json.dumps(who, indent=2).encode() + b"\n", 0o644)


def load_organisation(directory: Path | str, passphrase: bytes | None = None) -> Organisation:
    """Read an authority as `save_organisation` wrote it.

    Raises:
        ConfigError: as `load_identity`.
    """
    source = Path(directory)
    path = source / "organisation.json"
    try:
        who = json.loads(_read(path))
        organisation_id, name = str(who["id"]), str(who["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed(path, "wants id and name") from error
    key = _load_key(source / "ca.key.pem", passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _malformed(source / "ca.key.pem", "is no P-256 key")
    certificate = _load_certificate(source / "ca.cert.pem")
    return Organisation(organisation_id, name, key, certificate)


def _key_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    # The mode is set when the file is made: a key is never readable by others, not even briefly.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "IDENTITY_MISSING",
            f"cannot read the file: {error.strerror}",
            subject=str(path),
            fix="point to an identity directory, or make one: chainnode cert issue",
        ) from error


def _who(path: Path) -> tuple[str, Role, str]:
    try:
        who = json.loads(_read(path))
        return str(who["organisation"]), Role[str(who["role"]).upper()], str(who["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed(path, "wants organisation, role and name") from error


def _load_key(path: Path, passphrase: bytes | None) -> object:
    data = _read(path)
    if path.stat().st_mode & 0o077:
        raise ConfigError(
            "KEY_FILE_EXPOSED",
            "others on this machine can read the key",
            subject=str(path),
            fix=f"chmod 600 {path}",
        )
    encrypted = b"ENCRYPTED" in data.partition(b"\n")[0]
    try:
        return serialization.load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError) as error:
        if not encrypted:
            raise _malformed(path, "is no private key") from error
        raise ConfigError(
            "PASSPHRASE_WRONG",
            "the key does not open" if passphrase else "the key is encrypted",
            subject=str(path),
            fix="give the passphrase this identity was saved with",
        ) from error


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise _malformed(path, "is no certificate") from error


def _malformed(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        "IDENTITY_MALFORMED", reason, subject=str(path), fix="issue the identity again"
    )
