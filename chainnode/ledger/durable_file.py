"""An append-only file whose writes are on the disk when they return, or the node stops.

After a failed fsync the kernel marks dirty pages clean, so a retry would lie: PostgreSQL and
others lost data this way (Rebello et al., "Can Applications Recover from fsync Failures?",
USENIX ATC 2020). Hence one failure is final for the process.
"""

from __future__ import annotations

import os
from pathlib import Path

from chainnode.types.errors import InternalError


class DurableFile:
    """Appends that survive power loss, in order.

    Args:
        path: created when absent; its folder must exist.

    Raises:
        InternalError: STORAGE_FAILED on the first failed write or fsync, and on every call after.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        created = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size_bytes = os.fstat(self._descriptor).st_size
        self._failed = False
        if created:
            sync_directory(path.parent)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file, all of them synced."""
        return self._size_bytes

    def append(self, data: bytes) -> int:
        """Write and sync; returns the offset at which `data` starts."""
        self._refuse_after_failure()
        offset = self._size_bytes
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._fail(error) from error
        self._size_bytes += len(data)
        return offset

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`; fewer than `length` at the end of the file."""
        return os.pread(self._descriptor, length, offset)

    def cut(self, size_bytes: int) -> None:
        """Drop everything from `size_bytes` on, synced."""
        self._refuse_after_failure()
        try:
            os.ftruncate(self._descriptor, size_bytes)
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._fail(error) from error
        self._size_bytes = size_bytes

    def replace(self, data: bytes) -> None:
        """Put `data` in the place of everything, synced: after a power loss either is there."""
        self._refuse_after_failure()
        partial = self.path.with_name(self.path.name + ".new")
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
            partial.rename(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise self._fail(error) from error
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size_bytes = len(data)

    def close(self) -> None:
        """Release the descriptor; nothing is pending."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _refuse_after_failure(self) -> None:
        if self._failed:
            raise self._error("an earlier write failed")

    def _fail(self, error: OSError) -> InternalError:
        self._failed = True
        return self._error(os.strerror(error.errno or 0))

    def _error(self, reason: str) -> InternalError:
        return InternalError(
            "STORAGE_FAILED",
            f"A write to durable storage failed: {reason}.",
            subject=self.path.name,
            fix="check the disk, then start the node again; it recovers from what was synced",
        )


def sync_directory(directory: Path) -> None:
    """Make file creations and renames in `directory` survive power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
