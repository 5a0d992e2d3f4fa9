"""The file under the consensus log. The framing, pure, is the consensus package's business."""

from __future__ import annotations

from pathlib import Path

from chainnode.ledger.durable_file import DurableFile


class WalFile:
    """Framed consensus records on disk; every append is synced when it returns.

    Args:
        path: created when absent.
    """

    def __init__(self, path: Path) -> None:
        self._file = DurableFile(path)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return self._file.size_bytes

    def contents(self) -> bytes:
        """The whole log, to be decoded."""
        return self._file.read(0, self._file.size_bytes)

    def append(self, frames: bytes) -> None:
        """Write and sync.

        Raises:
            InternalError: STORAGE_FAILED; the node stops and never tries again.
        """
        self._file.append(frames)

    def replace(self, frames: bytes) -> None:
        """Keep `frames` and nothing else, in one step that a power loss cannot halve.

        Raises:
            InternalError: STORAGE_FAILED; the node stops and never tries again.
        """
        self._file.replace(frames)

    def cut(self, size_bytes: int) -> None:
        """Drop a torn tail."""
        if size_bytes != self._file.size_bytes:
            self._file.cut(size_bytes)

    def close(self) -> None:
        """Release the file."""
        self._file.close()
