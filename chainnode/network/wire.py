"""Peer messages without decoding transaction batches: they pass from socket to pool as bytes."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from chainnode._proto import peer_pb2
from chainnode.types.errors import PeerFault

TRANSACTIONS = 6
BODIES = 8
_LENGTH_DELIMITED = 2


@dataclass(frozen=True, slots=True)
class BatchMessage:
    """A transaction batch as it came, and whether it answers a body request."""

    batch: bytes
    bodies: bool


def encode_batch(batch: bytes, *, bodies: bool) -> bytes:
    """A PeerMessage around an encoded TransactionBatch."""
    field = BODIES if bodies else TRANSACTIONS
    return bytes([field << 3 | _LENGTH_DELIMITED]) + _varint(len(batch)) + batch


def decode(data: bytes) -> BatchMessage | peer_pb2.PeerMessage:
    """Read a PeerMessage; batches stay bytes.

    Raises:
        PeerFault: PEER_MESSAGE_MALFORMED.
    """
    field = data[0] >> 3 if data else 0
    try:
        if field in (TRANSACTIONS, BODIES):
            return BatchMessage(_payload(data), field == BODIES)
        message = peer_pb2.PeerMessage.FromString(data)
    except (DecodeError, IndexError, ValueError) as error:
        raise _malformed() from error
    if message.WhichOneof("body") is None:
        raise _malformed()
    return message


def _payload(data: bytes) -> bytes:
    length, shift, offset = 0, 0, 1
    while True:
        byte = data[offset]
        offset += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 35:
            raise ValueError("length")
    if offset + length != len(data):
        raise ValueError("trailing bytes")
    return data[offset:]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _malformed() -> PeerFault:
    return PeerFault("PEER_MESSAGE_MALFORMED", "A peer sent bytes that are no message.")
