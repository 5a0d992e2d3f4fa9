"""Canonical JSON: one byte string per value, so that a hash can stand for it.

Keys sorted, no white space, integers only. A decoder encodes again and compares, so two different
byte strings never mean the same plan.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, TypeVar

import msgspec

from chainnode.types.errors import ClientFault

StructT = TypeVar("StructT", bound=msgspec.Struct)

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def encode(value: msgspec.Struct) -> bytes:
    """The canonical JSON bytes of a frozen structure."""
    return msgspec.json.encode(value, order="sorted")


def decode(kind: type[StructT], data: bytes) -> StructT:
    """Read canonical JSON, refusing every other spelling of the same value.

    Raises:
        ClientFault: `MALFORMED` with the field path.
    """
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClientFault(
            "MALFORMED",
            f"not a {kind.__name__}: {error}",
            subject=kind.__name__,
            fix="send the bytes the planner or the schema encoder returned, unchanged",
        ) from error
    if encode(value) != data:
        raise ClientFault(
            "MALFORMED",
            f"{kind.__name__} JSON is not canonical",
            subject=kind.__name__,
            fix="sort the keys and remove white space and default fields, or encode it here",
        )
    return value


def digest(domain: str, value: msgspec.Struct) -> bytes:
    """SHA-256 of the canonical JSON under an ASCII domain prefix."""
    return hashlib.sha256(domain.encode("ascii") + encode(value)).digest()


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 as records spell it: 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None
