"""The block log: every block body before it is voted for, every certificate once it commits.

Segments of records: magic, kind, height, length, CRC-32 of all that and the payload. A body record
is written and synced before the node votes for the block; the commit record follows when the
certificate exists. Several bodies may exist for one height (a round that failed); the commit
record names the one that counts.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from dataclasses import astuple, dataclass
from pathlib import Path

from chainnode.ledger.durable_file import DurableFile, sync_directory
from chainnode.types.errors import REJOIN_FIX, InternalError
from chainnode.types.limits import (
    BLOCK_LOG_RECORD_SIZE_MAX_BYTES,
    BLOCK_LOG_SEGMENT_SIZE_MAX_BYTES,
)

_MAGIC = b"CNL1"
_HEAD = struct.Struct(">4sBQI")
_CHECK = struct.Struct(">I")
# Segment, offset and length of a body record, and of a commit record.
_PLACES = struct.Struct(">IQIIQI")
_FRAME = _HEAD.size + _CHECK.size
_BODY = 1
_COMMIT = 2
_HASH = 32


@dataclass(frozen=True, slots=True)
class LoggedBlock:
    """One committed block as its canonical parts."""

    height: int
    block_hash: bytes
    block: bytes
    batch: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    segment: int
    offset: int
    length: int


class _Index:
    """Where body and commit record of every height are, 32 bytes each.

    Opening the log reads every record, so the index is made anew then and needs no sync; the file
    goes with the process, and memory does not grow with the chain.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptor, name = tempfile.mkstemp(prefix="index-", dir=directory)
        Path(name).unlink()

    def get(self, height: int) -> tuple[_Place, _Place]:
        """Places of the body and the commit record of a height that was put."""
        entry = os.pread(self._descriptor, _PLACES.size, height * _PLACES.size)
        numbers = _PLACES.unpack(entry)
        return _Place(*numbers[:3]), _Place(*numbers[3:])

    def put(self, height: int, body: _Place, commit: _Place) -> None:
        """Add the next height."""
        entry = _PLACES.pack(*astuple(body), *astuple(commit))
        try:
            os.pwrite(self._descriptor, entry, height * _PLACES.size)
        except OSError as error:
            raise InternalError(
                "STORAGE_FAILED",
                f"The index of the block log cannot be written: {os.strerror(error.errno or 0)}.",
                subject=str(height),
                fix="check the disk, then start the node again; it recovers from what was synced",
            ) from error

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class BlockLog:
    """Append-only, synced before every return, indexed by height in a file without a name.

    Args:
        directory: holds the segments; created when absent.
        segment_size_max_bytes: a new segment starts once the current one is this large.

    Raises:
        InternalError: BLOCK_LOG_DAMAGED when a record that is followed by valid ones is bad;
            STORAGE_FAILED when a write fails.
    """

    def __init__(
        self, directory: Path, *, segment_size_max_bytes: int = BLOCK_LOG_SEGMENT_SIZE_MAX_BYTES
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # Synced records in a folder whose own name is lost would be lost with it.
        sync_directory(directory.parent)
        self._directory = directory
        self._segment_size_max_bytes = segment_size_max_bytes
        self._segments: list[DurableFile] = []
        self._bodies: dict[tuple[int, bytes], _Place] = {}
        self._committed = _Index(directory)
        self._torn_at: int | None = None
        self.height = 0
        paths = sorted(directory.glob("blocks-*.log"))
        for number, path in enumerate(paths):
            self._segments.append(DurableFile(path))
            self._scan(number, last=number == len(paths) - 1)
        if not self._segments:
            self._add_segment()

    @property
    def torn_size_bytes(self) -> int:
        """Bytes of an unfinished last write, kept until `cut_torn_tail`."""
        return 0 if self._torn_at is None else self._segments[-1].size_bytes - self._torn_at

    def cut_torn_tail(self) -> None:
        """Drop an unfinished last write. The caller has checked that nothing relies on it."""
        if self._torn_at is not None:
            self._segments[-1].cut(self._torn_at)
            self._torn_at = None

    def append_body(self, height: int, block_hash: bytes, block: bytes, batch: bytes) -> None:
        """Keep a block that may commit. A body already held is not written again."""
        if (height, block_hash) in self._bodies or height <= self.height:
            return
        payload = block_hash + len(block).to_bytes(4, "big") + block + batch
        self._bodies[height, block_hash] = self._append(_BODY, height, payload)

    def append_commit(self, height: int, block_hash: bytes, certificate: bytes) -> None:
        """Mark the body of `block_hash` as the block of `height`.

        Raises:
            InternalError: BLOCK_LOG_ORDER unless `height` is the next one and its body is held.
        """
        body = self._bodies.get((height, block_hash))
        if height != self.height + 1 or body is None:
            raise InternalError(
                "BLOCK_LOG_ORDER",
                f"Block {height} cannot follow block {self.height} in the log"
                f"{'' if body else ': its body is missing'}.",
                subject=str(height),
            )
        place = self._append(_COMMIT, height, block_hash + certificate)
        self._commit(height, body, place)

    def holds_body(self, height: int, block_hash: bytes) -> bool:
        """Whether a body with this hash is on the disk."""
        return (height, block_hash) in self._bodies

    def read(self, height: int) -> LoggedBlock | None:
        """A committed block, or None when `height` is not committed here.

        Raises:
            InternalError: BLOCK_LOG_DAMAGED when the stored bytes changed since they were written.
        """
        places = self._places(height)
        if places is None:
            return None
        body, commit = (self._read(place, height) for place in places)
        length = int.from_bytes(body[_HASH : _HASH + 4], "big")
        start = _HASH + 4
        return LoggedBlock(
            height,
            body[:_HASH],
            body[start : start + length],
            body[start + length :],
            commit[_HASH:],
        )

    def read_block(self, height: int) -> bytes | None:
        """A committed block without its bodies, or None; checked when the log was opened."""
        places = self._places(height)
        if places is None:
            return None
        file, start = self._segments[places[0].segment], places[0].offset + _FRAME + _HASH
        length = int.from_bytes(file.read(start, 4), "big")
        return file.read(start + 4, length)

    def read_body(self, height: int, block_hash: bytes) -> tuple[bytes, bytes] | None:
        """(block, batch) of a body that has not committed yet."""
        place = self._bodies.get((height, block_hash))
        if place is None:
            return None
        body = self._read(place, height)
        start = _HASH + 4
        end = start + int.from_bytes(body[_HASH:start], "big")
        return body[start:end], body[end:]

    def close(self) -> None:
        """Release the files; everything appended is on the disk already."""
        for segment in self._segments:
            segment.close()
        self._committed.close()

    def _places(self, height: int) -> tuple[_Place, _Place] | None:
        return self._committed.get(height) if 1 <= height <= self.height else None

    def _add_segment(self) -> None:
        name = f"blocks-{len(self._segments) + 1:06d}.log"
        self._segments.append(DurableFile(self._directory / name))

    def _append(self, kind: int, height: int, payload: bytes) -> _Place:
        if self._torn_at is not None:
            raise InternalError("BLOCK_LOG_ORDER", "The torn tail has to be cut first.")
        if self._segments[-1].size_bytes >= self._segment_size_max_bytes:
            self._add_segment()
        head = _HEAD.pack(_MAGIC, kind, height, len(payload))
        check = _CHECK.pack(zlib.crc32(payload, zlib.crc32(head)))
        offset = self._segments[-1].append(b"".join((head, check, payload)))
        return _Place(len(self._segments) - 1, offset, len(payload))

    def _commit(self, height: int, body: _Place, commit: _Place) -> None:
        self._committed.put(height, body, commit)
        self.height = height
        self._bodies = {key: place for key, place in self._bodies.items() if key[0] > height}

    def _read(self, place: _Place, height: int) -> bytes:
        file = self._segments[place.segment]
        record = _parse(file.read(place.offset, _FRAME + place.length), 0)
        if record is None or record[1] != height:
            raise self._damaged(place.segment, place.offset)
        return record[2]

    def _scan(self, number: int, *, last: bool) -> None:
        file = self._segments[number]
        data = file.read(0, file.size_bytes)
        offset = 0
        while offset < len(data):
            record = _parse(data, offset)
            if record is None:
                if not last or _valid_record_after(data, offset + 1):
                    raise self._damaged(number, offset)
                self._torn_at = offset
                return
            self._index(record, _Place(number, offset, len(record[2])))
            offset += _FRAME + len(record[2])

    def _index(self, record: tuple[int, int, bytes], place: _Place) -> None:
        kind, height, payload = record
        block_hash = payload[:_HASH]
        if kind == _BODY:
            self._bodies[height, block_hash] = place
            return
        body = self._bodies.get((height, block_hash))
        if body is None or height != self.height + 1:
            raise self._damaged(place.segment, place.offset)
        self._commit(height, body, place)

    def _damaged(self, segment: int, offset: int) -> InternalError:
        return InternalError(
            "BLOCK_LOG_DAMAGED",
            f"The block log is damaged at byte {offset}, and not by an unfinished write.",
            subject=self._segments[segment].path.name,
            fix=REJOIN_FIX,
        )


def _parse(data: bytes, offset: int) -> tuple[int, int, bytes] | None:
    """(kind, height, payload) of the record at `offset`, or None when it is not whole."""
    if offset + _FRAME > len(data):
        return None
    magic, kind, height, length = _HEAD.unpack_from(data, offset)
    if magic != _MAGIC or kind not in (_BODY, _COMMIT) or length > BLOCK_LOG_RECORD_SIZE_MAX_BYTES:
        return None
    (check,) = _CHECK.unpack_from(data, offset + _HEAD.size)
    payload = data[offset + _FRAME : offset + _FRAME + length]
    head = data[offset : offset + _HEAD.size]
    if len(payload) < max(length, _HASH) or zlib.crc32(payload, zlib.crc32(head)) != check:
        return None
    return kind, height, payload


def _valid_record_after(data: bytes, offset: int) -> bool:
    """Every append is synced before the next starts, so a whole record after a bad one proves
    damage, not an unfinished write."""
    while (offset := data.find(_MAGIC, offset)) >= 0:
        if _parse(data, offset) is not None:
            return True
        offset += 1
    return False
