"""Transactions: what a client signs, what endorsers add, and the two hashes that name them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, Protocol

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.types.codec import decode, encode
from chainnode.types.errors import ClientFault

SALT_SIZE_BYTES: Final = 16
GAS_LIMIT_DEFAULT: Final = 50_000_000


class Signer(Protocol):
    """A private key that signs; `cryptography`'s Ed25519PrivateKey is one."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the signature over the data."""
        ...


class PayloadKind(IntEnum):
    """What a transaction does: call a contract, change the chain, or manage a contract."""

    INVOKE = 1
    CONFIG = 2
    CONTRACT_ADMIN = 3


@dataclass(frozen=True, slots=True)
class Payload:
    """What a client signs.

    Args:
        chain_id: the chain it is for.
        kind: which handler it is for.
        contract: the contract's name; may be empty unless `kind` is INVOKE.
        method: the method or action.
        args: ABI-encoded arguments.
        sender: the signing public key, 32 bytes.
        expiry_height: the last height that may contain it.
        gas_limit: gas it may use.
        salt: 16 bytes that make two equal calls two transactions; random unless given.
    """

    chain_id: str
    kind: PayloadKind
    contract: str
    method: str
    args: bytes
    sender: bytes
    expiry_height: int
    gas_limit: int = GAS_LIMIT_DEFAULT
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(SALT_SIZE_BYTES))

    def to_proto(self) -> types_pb2.Payload:
        """The wire form."""
        return types_pb2.Payload(
            chain_id=self.chain_id,
            kind=types_pb2.PayloadKind.ValueType(int(self.kind)),
            contract=self.contract,
            method=self.method,
            args=self.args,
            sender=self.sender,
            salt=self.salt,
            expiry_height=self.expiry_height,
            gas_limit=self.gas_limit,
        )

    def tx_id(self) -> bytes:
        """The transaction's id: SHA-256("chainnode/tx-id/v1" || canonical payload)."""
        return _native.tx_id(encode(self.to_proto()))

    def sign(self, signer: Signer) -> Transaction:
        """Sign as the sender; the signer's public key must be `sender`."""
        return Transaction(self, signer.sign(sender_message(self.tx_id())))


@dataclass(frozen=True, slots=True)
class Endorsement:
    """One more party's signature under a transaction's id."""

    endorser: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed payload with its endorsements, sorted by endorser."""

    payload: Payload
    signature: bytes
    endorsements: tuple[Endorsement, ...] = ()

    def tx_id(self) -> bytes:
        """The id, unchanged by endorsements."""
        return self.payload.tx_id()

    def wid(self) -> bytes:
        """The hash of the whole: SHA-256("chainnode/wid/v1" || canonical transaction)."""
        return _native.wid(self.encode())

    def endorse(self, public_key: bytes, signer: Signer) -> Transaction:
        """Add (or replace) the endorsement of one key."""
        signature = signer.sign(endorsement_message(self.tx_id()))
        kept = [item for item in self.endorsements if item.endorser != public_key]
        return self.with_endorsements([*kept, Endorsement(public_key, signature)])

    def with_endorsements(self, endorsements: Iterable[Endorsement]) -> Transaction:
        """The same transaction with exactly these endorsements, put in order."""
        ordered = sorted(endorsements, key=lambda item: item.endorser)
        return replace(self, endorsements=tuple(ordered))

    def to_proto(self) -> types_pb2.Transaction:
        """The wire form."""
        return types_pb2.Transaction(
            payload=self.payload.to_proto(),
            signature=self.signature,
            endorsements=[
                types_pb2.Endorsement(endorser=item.endorser, signature=item.signature)
                for item in self.endorsements
            ],
        )

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self.to_proto())

    @classmethod
    def decode(cls, data: bytes) -> Transaction:
        """Read canonical bytes and check every format rule; signatures are not checked.

        Raises:
            ClientFault: `MALFORMED`, naming the field and its rule.
        """
        try:
            _native.check_transaction(data)
        except ValueError as error:
            raise ClientFault(
                "MALFORMED", str(error), subject="Transaction", fix="correct the field and sign"
            ) from error
        message = decode(types_pb2.Transaction, data)
        payload = message.payload
        return cls(
            Payload(
                payload.chain_id,
                PayloadKind(payload.kind),
                payload.contract,
                payload.method,
                payload.args,
                payload.sender,
                payload.expiry_height,
                payload.gas_limit,
                payload.salt,
            ),
            message.signature,
            tuple(Endorsement(item.endorser, item.signature) for item in message.endorsements),
        )


def sender_message(tx_id: bytes) -> bytes:
    """What a sender signs."""
    return b"chainnode/tx/v1" + tx_id


def endorsement_message(tx_id: bytes) -> bytes:
    """What an endorser signs."""
    return b"chainnode/endorse/v1" + tx_id


def encode_batch(transactions: Sequence[bytes]) -> bytes:
    """A TransactionBatch of canonical transactions, in this order."""
    return encode(types_pb2.TransactionBatch(transactions=transactions))


def decode_batch(data: bytes) -> list[bytes]:
    """The canonical transactions of a TransactionBatch; each is still unchecked.

    Raises:
        ClientFault: `MALFORMED`.
    """
    return list(decode(types_pb2.TransactionBatch, data).transactions)
