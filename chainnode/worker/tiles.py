"""A worker's own read-only column tiles, fetched by hash and checked before they are kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chainnode import _native
from chainnode._native import HeColumns, HeCorruptColumn
from chainnode.he.plan import Plan
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.sdk.columns import naming_replaced, read_pinned_columns
from chainnode.sdk.input_faults import InputFault
from chainnode.sdk.manifests import manifest_root
from chainnode.sdk.scoring import (
    QueryFacts,
    ScoringChain,
    TableFacts,
    gather_blobs,
)
from chainnode.types.errors import PeerFault

_DONE = "complete.list"


class TileStore:
    """Tiles of every version of every table this worker was asked about.

    Args:
        folder: one sub-folder per (profile, epoch, published roots).
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = asyncio.Lock()
        self._opened: dict[Path, HeColumns] = {}
        self._scrubbed: tuple[Path, str] = (Path(), "")

    async def open(
        self, chain: ScoringChain, table: TableFacts, plan: Plan, facts: QueryFacts
    ) -> HeColumns:
        """The columns a plan reads as its query pinned them, all of them checked.

        Raises:
            InputFault: `COLUMNS_STALE`, `COLUMN_MISSING`, `COLUMN_MALFORMED`, ...; the same at
                everyone who reads the same publication.
            PeerFault: `TILES_DAMAGED`.
        """
        async with self._lock:
            sources: dict[str, _Source] = {}
            for owner in table.owners:
                stored = table.schema.stored_columns(plan.profile, owner)
                if any(name in stored for name in plan.columns()):
                    manifest = await read_pinned_columns(chain, facts, owner)
                    root = manifest_root(manifest.columns)
                    # Only the owner the schema names counts: nobody else's column of that name.
                    for name in stored:
                        blocks = manifest.columns.get(name, [])
                        sources[name] = _Source(owner, plan.profile, root, name, blocks)
            count = table.schema.block_count(plan.profile)
            read = [sources[name] for name in plan.columns()]
            for source in read:
                source.require(count)
            wanted = {source.column: source.blocks for source in read}
            folder = self._place(plan, facts.epoch, wanted)
            missing = [source for source in read if source.column not in _complete(folder)]
            for source in missing:
                async with naming_replaced(chain, facts, source.owner):
                    blocks = await gather_blobs(chain, source.blocks)
                await asyncio.to_thread(_write, folder, source, blocks)
            if missing or folder not in self._opened:
                self._opened[folder] = await asyncio.to_thread(_open, folder, plan)
            return self._opened[folder]

    async def verify(self, columns: HeColumns, names: Sequence[str]) -> None:
        """Read opened columns again, and discard them unless they still have their roots.

        Raises:
            PeerFault: `TILES_DAMAGED`, naming the file.
        """
        try:
            await asyncio.to_thread(columns.verify, list(names))
        except HeCorruptColumn as error:
            self.discard(columns)
            raise damaged(str(self._folder), error) from error

    async def scrub(self) -> None:
        """Verify the next opened column in turn: a rotten file shows before a query reads it.

        Raises:
            PeerFault: `TILES_DAMAGED`, naming the file.
        """
        places = [
            (folder, name)
            for folder in sorted(self._opened)
            for name in sorted(self._opened[folder].columns)
        ]
        if places:
            later = (place for place in places if place > self._scrubbed)
            self._scrubbed = next(later, places[0])
            folder, name = self._scrubbed
            await self.verify(self._opened[folder], [name])

    def discard(self, columns: HeColumns) -> None:
        """Fetch these columns again when they are asked for next: their files are damaged."""
        for folder in [place for place, opened in self._opened.items() if opened is columns]:
            del self._opened[folder]
            (folder / _DONE).unlink(missing_ok=True)

    def _place(self, plan: Plan, epoch: int, wanted: dict[str, list[bytes]]) -> Path:
        # One folder per version of the table: a republished column lands elsewhere.
        hasher = hashlib.sha256(f"{plan.table}/{plan.profile}/{epoch}".encode())
        for name in sorted(wanted):
            hasher.update(name.encode() + b"\x00" + b"".join(wanted[name]))
        folder = self._folder / hasher.hexdigest()[:32]
        # The whole store may have been lost since this process began.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, slots=True)
class _Source:
    """One stored column as its owner published it: hashes of its blocks."""

    owner: str
    profile: ProfileName
    root: bytes
    column: str
    blocks: list[bytes]

    def require(self, count: int) -> None:
        if len(self.blocks) != count:
            reason = f"{len(self.blocks)} of {count} blocks are published"
            raise self.fault("COLUMN_MISSING", min(len(self.blocks), count), reason)

    def fault(self, code: str, block: int, reason: str) -> InputFault:
        return InputFault(code, self.owner, self.profile, self.root, self.column, block, reason)


def damaged(subject: str, error: Exception) -> PeerFault:
    """The fault of local tiles that are not what was written."""
    return PeerFault(
        "TILES_DAMAGED",
        f"the column tiles are damaged: {error}",
        subject=subject,
        fix="they are fetched again; if it repeats, check the disk",
        retry="after",
        retry_after_ms=1_000,
    )


def _open(folder: Path, plan: Plan) -> HeColumns:
    try:
        return HeColumns.open(str(folder), plan.profile)
    except ValueError as error:
        # The marker goes, so that the next try fetches every column again.
        (folder / _DONE).unlink(missing_ok=True)
        raise damaged(str(folder), error) from error


def _write(folder: Path, source: _Source, blocks: list[bytes]) -> None:
    limbs = PROFILES[source.profile].limbs
    for number, block in enumerate(blocks):
        try:
            _native.he_validate_ciphertext(source.profile, block, 2, limbs)
        except ValueError as error:
            reason = f"it is no ciphertext: {error}"
            raise source.fault("COLUMN_MALFORMED", number, reason) from error
    HeColumns.write(str(folder), source.column, source.profile, limbs, blocks)
    for path in folder.rglob("*"):
        if path.is_file() and path.name != _DONE:
            path.chmod(0o400)
    done = sorted({*_complete(folder), source.column})
    partial = folder / f"{_DONE}.new"
    partial.write_text(json.dumps(done), encoding="utf-8")
    partial.replace(folder / _DONE)


def _complete(folder: Path) -> list[str]:
    try:
        return list(json.loads((folder / _DONE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []
