"""Canonical bytes: one encoding per message, and hashes with a domain in front.

Fields in number order, defaults omitted, no maps, no unknown fields. A decoder re-encodes what it
read and compares, so that two byte strings never mean one message (docs: types.proto).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from chainnode import _native
from chainnode.types.errors import ClientFault

HASH_SIZE_BYTES: Final = 32
PUBLIC_KEY_SIZE_BYTES: Final = 32
SIGNATURE_SIZE_BYTES: Final = 64

MessageT = TypeVar("MessageT", bound=Message)


def encode(message: Message) -> bytes:
    """Return the canonical bytes of a message."""
    return message.SerializeToString(deterministic=True)


def decode(message_class: type[MessageT], data: bytes) -> MessageT:
    """Read canonical bytes, refusing every other encoding of the same message.

    Args:
        message_class: the generated class to read.
        data: the bytes as received.

    Raises:
        ClientFault: `MALFORMED`, when the bytes are not a message or not canonical.
    """
    message = message_class()
    try:
        message.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise malformed(message_class.DESCRIPTOR.name, "bytes are not this message") from error
    message.DiscardUnknownFields()  # type: ignore[no-untyped-call, unused-ignore]
    if encode(message) != data:
        raise malformed(message_class.DESCRIPTOR.name, "encoding is not canonical")
    return message


def malformed(subject: str, reason: str) -> ClientFault:
    """Build the error for bytes or fields of the wrong shape."""
    return ClientFault("MALFORMED", reason, subject=subject, fix="send canonical protobuf")


def check_size(subject: str, value: bytes, *sizes: int) -> None:
    """Refuse a byte field whose length is none of `sizes` (bytes).

    Raises:
        ClientFault: `MALFORMED`.
    """
    if len(value) not in sizes:
        raise malformed(subject, f"is {len(value)} bytes, wants {' or '.join(map(str, sizes))}")


def tagged_hash(domain: bytes, data: bytes) -> bytes:
    """SHA-256 of an ASCII domain followed by the data, with nothing between."""
    return hashlib.sha256(domain + data).digest()


def length_prefixed(text: str) -> bytes:
    """UTF-8 text behind its u32 big-endian length in bytes."""
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def address_of(public_key: bytes) -> bytes:
    """The 32-byte address of a public key."""
    return tagged_hash(b"chainnode/address/v1", public_key)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Domain-tagged Merkle root of RFC 6962's shape; of no leaves: SHA-256 of the empty string."""
    return _native.merkle_root(leaves)
