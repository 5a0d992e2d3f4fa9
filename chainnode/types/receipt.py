"""Receipts: what execution made of a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from chainnode._proto import types_pb2
from chainnode.types.codec import HASH_SIZE_BYTES, check_size, decode, encode, malformed


class ReceiptStatus(IntEnum):
    """How a transaction ended. Everything but OK left the state unchanged."""

    OK = 1
    REVERTED = 2
    TRAPPED = 3
    OUT_OF_GAS = 4
    DUPLICATE = 5
    EXPIRED = 6
    UNKNOWN_MEMBER = 7
    MEMBER_FROZEN = 8
    CERTIFICATE_EXPIRED = 9
    UNKNOWN_CONTRACT = 10
    CONTRACT_FROZEN = 11
    UNKNOWN_METHOD = 12
    POLICY_NOT_MET = 13
    INVALID_ARGUMENTS = 14
    MEMBER_REVOKED = 15
    BAD_ENDORSEMENT = 16


@dataclass(frozen=True, slots=True)
class Event:
    """What a contract announced; `data` holds the ABI-encoded fields."""

    contract: str
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """The outcome of one transaction. Fields as in types.proto."""

    tx_id: bytes
    status: ReceiptStatus
    result: bytes = b""
    gas_used: int = 0
    events: tuple[Event, ...] = ()
    access_hash: bytes = b""
    error_code: int = 0
    message: str = ""
    wid: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the transaction took effect."""
        return self.status is ReceiptStatus.OK

    def to_proto(self) -> types_pb2.Receipt:
        """The wire form."""
        return types_pb2.Receipt(
            tx_id=self.tx_id,
            status=types_pb2.ReceiptStatus.ValueType(int(self.status)),
            result=self.result,
            gas_used=self.gas_used,
            events=[
                types_pb2.Event(contract=item.contract, name=item.name, data=item.data)
                for item in self.events
            ],
            access_hash=self.access_hash,
            error_code=self.error_code,
            message=self.message,
            wid=self.wid,
        )

    def encode(self) -> bytes:
        """Canonical bytes: the leaf of the receipts root."""
        return encode(self.to_proto())

    @classmethod
    def from_proto(cls, message: types_pb2.Receipt) -> Receipt:
        """Read and check the shape.

        Raises:
            ClientFault: `MALFORMED`.
        """
        try:
            status = ReceiptStatus(message.status)
        except ValueError as error:
            raise malformed("Receipt.status", f"{message.status} is no status") from error
        # A view's receipt belongs to no transaction.
        check_size("Receipt.tx_id", message.tx_id, 0, HASH_SIZE_BYTES)
        check_size("Receipt.wid", message.wid, 0, HASH_SIZE_BYTES)
        return cls(
            message.tx_id,
            status,
            message.result,
            message.gas_used,
            tuple(Event(item.contract, item.name, item.data) for item in message.events),
            message.access_hash,
            message.error_code,
            message.message,
            message.wid,
        )

    @classmethod
    def decode(cls, data: bytes) -> Receipt:
        """Read canonical bytes.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return cls.from_proto(decode(types_pb2.Receipt, data))
