"""The consensus log's framing: pure functions between records and bytes.

Frame = u32 length | u32 CRC-32 | body, big-endian. Body = SHA-256 of the previous frame (32 bytes)
| u64 height | u8 type | payload; the type's top bit marks the first frame of an append. The hash
chain catches lost, repeated and reordered frames that a CRC accepts.

One append is synced before the next one starts, so a power cut damages frames of the last append
only: that tail is cut. An intact frame that starts an append behind damage proves that the damage
is old: the node stops.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from chainnode.types.errors import REJOIN_FIX, InternalError
from chainnode.types.limits import WAL_RECORD_SIZE_MAX_BYTES

CHAIN_START: Final = bytes(32)
"""The previous hash of a log's first frame."""

_FRAME: Final = struct.Struct(">II")
_BODY: Final = struct.Struct(">32sQB")
_FIRST: Final = 0x80


class RecordType(IntEnum):
    """What a record's payload is (all canonical protobuf)."""

    VOTE = 1  # a Vote this node signed
    PROPOSAL = 2  # a Proposal this node signed
    LOCK = 3  # an unsigned Proposal: the round and the block locked in it
    VALID = 4  # an unsigned Proposal: the round and the block with 2f+1 prevotes in it
    SEEN_VOTE = 5  # another validator's Vote that a lock or a round rests on


@dataclass(frozen=True, slots=True)
class WalRecord:
    """One entry of the consensus log."""

    height: int
    type: RecordType
    payload: bytes


@dataclass(frozen=True, slots=True)
class DecodedWal:
    """An opened log.

    Args:
        records: intact records, oldest first.
        valid_size_bytes: where the intact part ends; the file is cut here before appending.
        last_hash: what the next frame chains to.
    """

    records: tuple[WalRecord, ...]
    valid_size_bytes: int
    last_hash: bytes


def encode_records(records: Iterable[WalRecord], last_hash: bytes) -> tuple[bytes, bytes]:
    """Frame the records of one append after a frame with hash `last_hash`.

    Returns:
        The bytes to append and the hash the next append chains to.
    """
    frames = []
    first_bit = _FIRST
    for record in records:
        body = _BODY.pack(last_hash, record.height, record.type | first_bit) + record.payload
        frame = _FRAME.pack(len(body), zlib.crc32(body)) + body
        frames.append(frame)
        last_hash = hashlib.sha256(frame).digest()
        first_bit = 0
    return b"".join(frames), last_hash


def prune_records(data: bytes, height: int) -> tuple[bytes, bytes]:
    """What a whole log must keep of it: every record of `height` and above, framed anew.

    Returns:
        The new file's bytes and the hash the next append chains to.

    Raises:
        InternalError: `WAL_DAMAGED`.
    """
    frames, last_hash = [], CHAIN_START
    for record in decode_records(data).records:
        if record.height >= height:
            # Each an append of its own: damage in one cannot pass for a torn tail.
            frame, last_hash = encode_records((record,), last_hash)
            frames.append(frame)
    return b"".join(frames), last_hash


def decode_records(data: bytes, start_hash: bytes = CHAIN_START) -> DecodedWal:
    """Read a whole log, cutting a torn tail.

    Args:
        data: the file's bytes.
        start_hash: what the first frame chains to; zeros unless the log was pruned.

    Raises:
        InternalError: `WAL_DAMAGED`, when an append starts behind damage or the chain breaks.
    """
    records = []
    offset = 0
    last_hash = start_hash
    while (frame := _frame_at(data, offset)) is not None:
        previous_hash, height, kind = _BODY.unpack_from(frame, _FRAME.size)
        kind &= ~_FIRST
        if previous_hash != last_hash or kind not in RecordType._value2member_map_:
            raise _damaged(offset)
        records.append(WalRecord(height, RecordType(kind), frame[_FRAME.size + _BODY.size :]))
        last_hash = hashlib.sha256(frame).digest()
        offset += len(frame)
    if _append_starts_after(data, offset):
        raise _damaged(offset)
    return DecodedWal(tuple(records), offset, last_hash)


def _frame_at(data: bytes, offset: int) -> bytes | None:
    if offset + _FRAME.size > len(data):
        return None
    size, checksum = _FRAME.unpack_from(data, offset)
    end = offset + _FRAME.size + size
    if not _BODY.size <= size <= WAL_RECORD_SIZE_MAX_BYTES or end > len(data):
        return None
    body = data[offset + _FRAME.size : end]
    return data[offset:end] if zlib.crc32(body) == checksum else None


def _append_starts_after(data: bytes, damaged_offset: int) -> bool:
    # Scanning byte by byte, because damaged length fields say nothing about where frames start.
    for offset in range(damaged_offset + 1, len(data) - _FRAME.size - _BODY.size + 1):
        frame = _frame_at(data, offset)
        if frame is not None and frame[_FRAME.size + _BODY.size - 1] & _FIRST:
            return True
    return False


def _damaged(offset: int) -> InternalError:
    return InternalError(
        "WAL_DAMAGED",
        "the consensus log is damaged before its end",
        subject=f"byte {offset}",
        fix=REJOIN_FIX,
    )
