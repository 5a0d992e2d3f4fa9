"""The signer's own memory, apart from the data folder: the last place a validator key signed at.

Two slots of one file, written in turns and synced, so that a torn write leaves the other slot. A
vote leaves only after its place is here; whoever loses, restores or empties the data folder still
cannot make this key sign a place twice (INVARIANTS.md, I4). The file is locked: two processes with
one key would be two signers.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from pathlib import Path
from typing import Final, TypeAlias

from chainnode.ledger.durable_file import sync_directory
from chainnode.types.errors import ConfigError, InternalError

Place: TypeAlias = tuple[int, int, int, int]
"""(engine epoch, height, round, step), in this order."""

_MAGIC: Final = b"CNS1"
_SLOT: Final = struct.Struct(">4s32sQQIB32s")
_CHECK: Final = struct.Struct(">I")
_SLOT_SIZE_BYTES: Final = _SLOT.size + _CHECK.size
_SLOT_OFFSETS: Final = (0, 4_096)
"""On different blocks of the disk, so that one torn write cannot damage both."""
_FILE_SIZE_BYTES: Final = 2 * 4_096
_UNSIGNED: Final[Place] = (0, 0, 0, 0)


class SignerFile:
    """The last place signed at, always synced before `advance` returns.

    Args:
        path: made when absent; keep it beside the keys, not in the data folder.
        chain: hash of the chain's genesis; a file belongs to one chain.

    Raises:
        ConfigError: SIGNER_IN_USE when another process holds it; SIGNER_OTHER_CHAIN.
        InternalError: SIGNER_STATE_DAMAGED; STORAGE_FAILED.
    """

    def __init__(self, path: Path, chain: bytes) -> None:
        self.path = path
        self._chain = chain
        self._last: tuple[Place, bytes] = (_UNSIGNED, bytes(32))
        self._next_slot = 0
        self._failed = False
        if not path.exists():
            self._create()
        self._descriptor = os.open(path, os.O_RDWR)
        try:
            self._lock()
            self._load()
        except BaseException:
            self.close()
            raise

    @property
    def last(self) -> Place | None:
        """Where this key signed last, or None when it never has."""
        place = self._last[0]
        return None if place == _UNSIGNED else place

    def advance(self, place: Place, digest: bytes) -> None:
        """Remember a signature before it leaves; the same one again is no change.

        Args:
            place: where it is given.
            digest: SHA-256 of the signed bytes.

        Raises:
            InternalError: DOUBLE_SIGN when the place is behind the last one or holds another
                value; STORAGE_FAILED. The node stops, and the signature never leaves.
        """
        if (place, digest) == self._last:
            return
        if place <= self._last[0]:
            raise InternalError(
                "DOUBLE_SIGN",
                f"This key signed at {self._last[0]} and was about to sign at {place}.",
                subject=str(self.path),
                fix="report it; the vote was not sent",
            )
        if self._failed:
            raise self._storage_failed("an earlier write failed")
        try:
            os.pwrite(self._descriptor, self._encode(place, digest), _SLOT_OFFSETS[self._next_slot])
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._failed = True
            raise self._storage_failed(os.strerror(error.errno or 0)) from error
        self._last = (place, digest)
        self._next_slot = 1 - self._next_slot

    def close(self) -> None:
        """Release the file and its lock; nothing is pending."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _encode(self, place: Place, digest: bytes) -> bytes:
        slot = _SLOT.pack(_MAGIC, self._chain, *place, digest)
        return slot + _CHECK.pack(zlib.crc32(slot))

    def _create(self) -> None:
        partial = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.pwrite(descriptor, bytes(_FILE_SIZE_BYTES), 0)
                os.pwrite(descriptor, self._encode(*self._last), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            partial.rename(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise self._storage_failed(os.strerror(error.errno or 0)) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                "SIGNER_IN_USE",
                "Another process signs with this key.",
                subject=str(self.path),
                fix="stop the other node; one key belongs to one process",
            ) from error

    def _load(self) -> None:
        found: list[tuple[Place, bytes, int]] = []
        for number, offset in enumerate(_SLOT_OFFSETS):
            data = os.pread(self._descriptor, _SLOT_SIZE_BYTES, offset)
            if len(data) < _SLOT_SIZE_BYTES:
                continue
            slot = data[: _SLOT.size]
            magic, chain, epoch, height, round_number, step, digest = _SLOT.unpack(slot)
            if magic != _MAGIC or _CHECK.unpack(data[_SLOT.size :]) != (zlib.crc32(slot),):
                continue
            if chain != self._chain:
                raise self._other_chain()
            found.append(((epoch, height, round_number, step), digest, number))
        if not found:
            raise self._damaged()
        place, digest, number = max(found)
        self._last = (place, digest)
        self._next_slot = 1 - number

    def _other_chain(self) -> ConfigError:
        return ConfigError(
            "SIGNER_OTHER_CHAIN",
            "The signer state belongs to another chain than the genesis file.",
            subject=str(self.path),
            fix="issue a key for each chain, or name another signer_state if that chain is over",
        )

    def _damaged(self) -> InternalError:
        return InternalError(
            "SIGNER_STATE_DAMAGED",
            "The signer state cannot be read: what this key signed last is not known.",
            subject=str(self.path),
            fix="do not delete it while the chain may be at a height this node voted on: let the "
            "other validators commit a block without this node, then move the file and the "
            "data folder away and start the node",
        )

    def _storage_failed(self, reason: str) -> InternalError:
        return InternalError(
            "STORAGE_FAILED",
            f"The signer state cannot be written: {reason}.",
            subject=str(self.path),
            fix="check the disk and who owns the folder, then start the node again",
        )
