"""Shards: a few blocks of the columns a plan reads, kept and computed on another machine.

Here is what does not depend on how the machines talk: what a shard is, how its tiles are checked,
where shards are placed. A column's blocks in a shard are one chunk, named by the Merkle root over
its blocks; whoever keeps it compares the root of what it holds before it computes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from chainnode._native import HeColumns, HeCorruptColumn
from chainnode.he.engine import LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.planner.chunks import worthwhile
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.types.codec import merkle_root
from chainnode.types.errors import ConfigError, PeerFault

_SLOTS_MAX: Final = 64
_RESIDUE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class ShardOrder:
    """Which tiles a shard needs.

    Args:
        profile: ring of the columns.
        limbs: leading limbs, as many as the plan reads.
        first: the table's number of the first block.
        count: number of blocks.
        roots: (column, Merkle root over its blocks), in column order.
    """

    profile: ProfileName
    limbs: int
    first: int
    count: int
    roots: tuple[tuple[str, bytes], ...]

    def key(self) -> str:
        """Names the tiles by what is in them; equal for every query that reads the same."""
        hasher = hashlib.sha256(f"{self.profile}/{self.limbs}/{self.count}".encode())
        for name, root in self.roots:
            hasher.update(name.encode() + b"\x00" + root)
        return hasher.hexdigest()

    def block_bytes(self) -> int:
        """Size of one block of one column."""
        return 2 * self.limbs * PROFILES[self.profile].slots * _RESIDUE_BYTES


def read_blocks(columns: HeColumns, name: str, limbs: int, first: int, count: int) -> list[bytes]:
    """A column's ciphertexts, cut to their leading limbs."""
    # A sum of one column with weight 1 is that column, bit by bit.
    return columns.mac_scalar([name], [[1]], limbs, first, count)[0]


def order_of(plan: Plan, columns: HeColumns, first: int, count: int) -> ShardOrder:
    """The order for some blocks of a plan's columns, with roots computed from verified columns."""
    roots = tuple(
        (name, merkle_root(read_blocks(columns, name, plan.limbs, first, count)))
        for name in plan.columns()
    )
    return ShardOrder(plan.profile, plan.limbs, first, count, roots)


def tiles_of(order: ShardOrder, columns: HeColumns) -> dict[str, bytes]:
    """What a machine without the shard's tiles is sent: each column's blocks, one after another."""
    return {
        name: b"".join(read_blocks(columns, name, order.limbs, order.first, order.count))
        for name, _ in order.roots
    }


def shard_count(plan: Plan, blocks: int, most: int) -> int:
    """Into how many shards a chunk is split, by the planner's rule of what another one saves.

    A shard of sums returns all sums of the plan, however few its blocks. Those of scores and of
    checks are split as far as they go: a score's result grows with the blocks, which a shard keeps
    in files of its own and reads whole, and a check's work is its weights.

    Args:
        plan: whose chunk it is.
        blocks: of the chunk.
        most: shards of a chunk, as the worker is set up.
    """
    if plan.kind != "aggregate":
        return most
    residues = plan.sums().polynomials() * plan.limbs * PROFILES[plan.profile].slots
    read_bytes = plan.cost.bytes_read * blocks // sum(count for _, count in plan.chunks)
    return worthwhile(read_bytes, residues * _RESIDUE_BYTES, most)


def place(keys: Sequence[str], machines: Sequence[str]) -> list[list[str]]:
    """For each shard every machine, the one to ask first in front.

    Highest random weight (Thaler and Ravishankar 1998), so that a machine that comes or goes moves
    few shards; no machine is first for more than its even share.

    Args:
        keys: of the shards.
        machines: their names, at least one.
    """
    share = -(-len(keys) // len(machines))
    load = dict.fromkeys(machines, 0)
    placed = []
    for key in keys:
        ranked = sorted(
            machines, key=lambda name: hashlib.sha256(f"{key}/{name}".encode()).digest()
        )
        chosen = next(name for name in ranked if load[name] < share)
        load[chosen] += 1
        placed.append([chosen, *(name for name in ranked if name != chosen)])
    return placed


class ShardStore:
    """The tiles one process keeps on its machine's disk, least recently used ones dropped.

    Args:
        folder: shared by all such processes of the machine; each takes a numbered part of it.
        size_max_bytes: of this process's part.

    Raises:
        ConfigError: `SHARD_FOLDER_FULL` when too many processes use the folder.
    """

    def __init__(self, folder: Path, size_max_bytes: int) -> None:
        self._size_max = size_max_bytes
        self._lock, self.folder = _take_slot(folder)
        self._opened: dict[str, HeColumns] = {}
        kept = [path for path in self.folder.iterdir() if path.is_dir()]
        kept.sort(key=lambda path: path.stat().st_mtime_ns)
        self._sizes = OrderedDict((path.name, _size(path)) for path in kept)

    def keep(self, order: ShardOrder, tiles: Mapping[str, bytes]) -> None:
        """Check a shard's tiles and store them.

        Raises:
            PeerFault: `CHUNK_MISMATCH` naming the column whose bytes are not the ones ordered.
        """
        size = order.block_bytes()
        blocks: dict[str, list[bytes]] = {}
        for name, root in order.roots:
            data = tiles.get(name, b"")
            blocks[name] = [data[start : start + size] for start in range(0, len(data), size)]
            if len(data) != order.count * size or merkle_root(blocks[name]) != root:
                raise _mismatch(order, name, "the tiles that arrived")
        self.drop(order)
        needed = sum(len(data) for data in tiles.values())
        while self._sizes and sum(self._sizes.values()) + needed > self._size_max:
            self._remove(next(iter(self._sizes)))
        place = self.folder / order.key()
        partial = self.folder / "arriving"
        shutil.rmtree(partial, ignore_errors=True)
        for name, pieces in blocks.items():
            HeColumns.write(str(partial), name, order.profile, order.limbs, pieces)
        partial.replace(place)
        self._sizes[order.key()] = _size(place)

    def close(self) -> None:
        """Leave the part of the folder to another process; the tiles stay for it."""
        self._opened.clear()
        self._lock.close()

    def holds(self, order: ShardOrder) -> bool:
        """Whether the shard's tiles are on disk."""
        return order.key() in self._sizes

    def compute(
        self, order: ShardOrder, plan: Plan, masks: Sequence[bytes], query: bytes, threads: int
    ) -> bytes:
        """The result container of the shard's blocks.

        Raises:
            PeerFault: `CHUNK_MISMATCH` when the tiles on disk are not the ones ordered; they are
                dropped.
        """
        self._sizes.move_to_end(order.key())
        columns = self._open(order)
        engine = LocalEngine(threads)
        try:
            return engine.run_blocks(plan, columns, 0, order.count, masks, query, order.first)
        except HeCorruptColumn as error:
            self.drop(order)
            raise _mismatch(order, str(error), "the tiles under the kernel") from error

    def drop(self, order: ShardOrder) -> None:
        """Forget a shard's tiles."""
        if self.holds(order):
            self._remove(order.key())

    def _open(self, order: ShardOrder) -> HeColumns:
        found = self._opened.get(order.key())
        if found is not None:
            return found
        try:
            columns = HeColumns.open(str(self.folder / order.key()), order.profile)
            for name, root in order.roots:
                held = read_blocks(columns, name, order.limbs, 0, order.count)
                if merkle_root(held) != root:
                    raise _mismatch(order, name, "the tiles on disk")
        except (ValueError, PeerFault) as error:
            self.drop(order)
            raise _mismatch(order, str(error), "the tiles on disk") from error
        # Only a folder opened and compared with its roots is computed on.
        self._opened[order.key()] = columns
        os.utime(self.folder / order.key())
        return columns

    def _remove(self, key: str) -> None:
        self._opened.pop(key, None)
        self._sizes.pop(key)
        shutil.rmtree(self.folder / key, ignore_errors=True)


def _mismatch(order: ShardOrder, name: str, which: str) -> PeerFault:
    return PeerFault(
        "CHUNK_MISMATCH",
        f"{which} do not have the root that was ordered: {name}",
        subject=order.key(),
        fix="they are fetched again; if it repeats, check that machine's disk and memory",
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _take_slot(folder: Path) -> tuple[IO[str], Path]:
    for number in range(_SLOTS_MAX):
        slot = folder / str(number)
        slot.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / f"{number}.lock").open("w", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return lock, slot
    raise ConfigError(
        "SHARD_FOLDER_FULL",
        f"{_SLOTS_MAX} processes keep shards there already",
        subject=str(folder),
        fix="end the processes of queries that are over, or name another folder",
    )
