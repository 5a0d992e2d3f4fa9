"""Key-value storage of state, receipts and indices: one synced atomic batch per block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import plyvel

from chainnode.types.errors import ConfigError, InternalError
from chainnode.types.limits import MEBI

Write = tuple[bytes, bytes | None]


class Store(Protocol):
    """An ordered map of bytes with atomic, durable batches."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def write(self, writes: Iterable[Write]) -> None:
        """Apply all writes (None deletes) atomically; they are on the disk on return.

        Raises:
            InternalError: STORAGE_FAILED; the node stops.
        """

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every key with `prefix`, in key order."""

    def close(self) -> None:
        """Release the files."""


class LevelDbStore:
    """`Store` in a LevelDB folder.

    Args:
        directory: created when absent.

    Raises:
        ConfigError: STORE_LOCKED when another process has it open.
        InternalError: STORE_DAMAGED when LevelDB cannot open it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        try:
            self._database = plyvel.DB(
                str(directory),
                create_if_missing=True,
                paranoid_checks=True,
                write_buffer_size=16 * MEBI,
                bloom_filter_bits=10,
            )
        except plyvel.IOError as error:
            raise ConfigError(
                "STORE_LOCKED",
                "The state store cannot be opened; another process may hold it.",
                subject=str(directory),
                fix="stop the other node that uses this data folder",
            ) from error
        except plyvel.Error as error:
            raise InternalError(
                "STORE_DAMAGED",
                "The state store is damaged.",
                subject=str(directory),
                fix="move the state folder away: it is rebuilt from the block log",
            ) from error

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        value: bytes | None = self._database.get(key)
        return value

    def write(self, writes: Iterable[Write]) -> None:
        """Apply all writes atomically, synced."""
        try:
            with self._database.write_batch(transaction=True, sync=True) as batch:
                for key, value in writes:
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)
        except plyvel.Error as error:
            raise InternalError(
                "STORAGE_FAILED",
                "A write to the state store failed.",
                subject=str(self._directory),
                fix="check the disk, then start the node again; it recovers from what was synced",
            ) from error

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every key with `prefix`, in key order."""
        with self._database.iterator(prefix=prefix, verify_checksums=True) as rows:
            yield from rows

    def close(self) -> None:
        """Release the files."""
        self._database.close()
