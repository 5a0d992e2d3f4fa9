"""Limb planes of columns kept in a device's memory by Merkle root, the oldest used ones dropped."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from chainnode.he.cuda.device import Buffer, Device, Words

if TYPE_CHECKING:
    from chainnode._native import HeColumns

_TILE: Final = 64
_PIECE_WORDS: Final = 48
_PACKED_BYTES: Final = 6
_LOW: Final = np.uint64((1 << 48) - 1)


class Planes:
    """The planes a device holds, six bytes a residue.

    Args:
        device: holds them.
        size_max_bytes: of all of them together.
    """

    def __init__(self, device: Device, size_max_bytes: int) -> None:
        self._device = device
        self._size_max = size_max_bytes
        self._size = 0
        self._kept: OrderedDict[bytes, Buffer] = OrderedDict()

    def find(self, columns: HeColumns, names: Sequence[str], limbs: int) -> list[Buffer] | None:
        """The planes [limb][column], uploaded where they are not there yet.

        None when they do not fit in the memory allowed.

        Raises:
            HeCorruptColumn: a file changed since it was opened.
            DeviceFaultError: the device has no room, or broke.
        """
        roots = {name: columns.roots(name) for name in names}
        wanted = [(name, limb, roots[name][limb]) for limb in range(limbs) for name in names]
        needed = {root for _, _, root in wanted}
        found = []
        for name, limb, root in wanted:
            plane = self._kept.get(root)
            if plane is None:
                words = _packed(columns, name, limb)
                if not self._make_room(words.nbytes, needed):
                    return None
                plane = self._device.upload(words)
                self._kept[root] = plane
                self._size += plane.size_bytes
            self._kept.move_to_end(root)
            found.append(plane)
        return found

    def clear(self) -> None:
        """Give all of the memory back."""
        self._kept.clear()
        self._size = 0

    def _make_room(self, size_bytes: int, needed: set[bytes]) -> bool:
        for root in [root for root in self._kept if root not in needed]:
            if self._size + size_bytes <= self._size_max:
                break
            self._size -= self._kept.pop(root).size_bytes
        return self._size + size_bytes <= self._size_max


def _packed(columns: HeColumns, name: str, limb: int) -> Words:
    words = np.frombuffer(columns.stored(name, limb), np.uint64)
    if columns.residue_bytes(name) == _PACKED_BYTES:
        return words
    # As packing.rs of crates/chain-he: residues from the 48th in the high parts of three lines.
    tiles = words.reshape(-1, _TILE)
    spread = tiles[:, _PIECE_WORDS:].reshape(-1, 2, 1, 8)
    shifts = np.array([0, 16, 32], np.uint64).reshape(1, 1, 3, 1)
    parts = (spread >> shifts & np.uint64(0xFFFF)).reshape(-1, _PIECE_WORDS)
    packed: Words = tiles[:, :_PIECE_WORDS] & _LOW | parts << np.uint64(48)
    return packed.reshape(-1)
