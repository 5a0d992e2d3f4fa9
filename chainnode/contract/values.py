"""The value classes and integer ranges contract authors annotate with."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from chainnode.contract import schema

CONTRACT_ADDRESS_DOMAIN: Final = b"chainnode/contract-address/v1"
_FIXED_BYTES: Final = 32


class Bytes32(bytes):
    """Exactly 32 bytes, a hash for example.

    Raises:
        ValueError: another length.
    """

    def __new__(cls, data: bytes) -> Bytes32:
        if len(data) != _FIXED_BYTES:
            raise ValueError(f"{cls.__name__} needs 32 bytes, not {len(data)}")
        return super().__new__(cls, data)


class Address(Bytes32):
    """A member, or a contract: SHA-256 of a domain prefix and its public key or its name.

    Raises:
        ValueError: not 32 bytes.
    """


def contract_address(name: str) -> Address:
    """Return the address under which a contract calls others: approve or pay this one."""
    return Address(hashlib.sha256(CONTRACT_ADDRESS_DOMAIN + name.encode()).digest())


u8 = Annotated[int, schema.U8]
u16 = Annotated[int, schema.U16]
u32 = Annotated[int, schema.U32]
u64 = Annotated[int, schema.U64]
u128 = Annotated[int, schema.U128]
i64 = Annotated[int, schema.I64]
