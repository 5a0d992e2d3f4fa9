"""Mutual TLS as gRPC wants it, and what identifies the other side: its TLS key's hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chainnode.types.limits import GRPC_MESSAGE_SIZE_MAX_BYTES, GRPC_METADATA_SIZE_MAX_BYTES

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_SIZE_MAX_BYTES),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_SIZE_MAX_BYTES),
    ("grpc.max_metadata_size", GRPC_METADATA_SIZE_MAX_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
RECONNECT_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Not a pause: how long one attempt, handshake and all, may last. A loaded machine needs longer.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """One process's TLS identity.

    Args:
        certificate_pem: the TLS certificate.
        key_pem: its private key, in the clear (in memory only).
        roots_pem: the organisations' CA certificates that may sign the other side.
    """

    certificate_pem: bytes
    key_pem: bytes
    roots_pem: bytes

    def __repr__(self) -> str:
        return "TlsMaterial(...)"


def server_credentials(material: TlsMaterial) -> grpc.ServerCredentials:
    """Credentials of a server that refuses clients without a certificate of a known CA."""
    return grpc.ssl_server_credentials(
        [(material.key_pem, material.certificate_pem)],
        root_certificates=material.roots_pem,
        require_client_auth=True,
    )


def client_channel(endpoint: str, material: TlsMaterial, server_name: str) -> grpc.aio.Channel:
    """A channel to `endpoint` (host:port) whose certificate must carry `server_name`."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=material.roots_pem,
        private_key=material.key_pem,
        certificate_chain=material.certificate_pem,
    )
    options = (
        *CHANNEL_OPTIONS,
        *RECONNECT_OPTIONS,
        ("grpc.ssl_target_name_override", server_name),
    )
    return grpc.aio.secure_channel(endpoint, credentials, options=options)


def roots_pem(certificates_der: Iterable[bytes]) -> bytes:
    """CA certificates as one PEM bundle."""
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates_der
    )


@lru_cache(maxsize=1_024)
def tls_key_hash(certificate_pem: bytes) -> bytes:
    """SHA-256 of the certificate's SubjectPublicKeyInfo: what the chain knows a process by."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


def caller_key_hash(context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """The TLS key hash of the process behind a call; empty when it showed no certificate."""
    certificates = context.auth_context().get("x509_pem_cert", ())
    return tls_key_hash(next(iter(certificates))) if certificates else b""
