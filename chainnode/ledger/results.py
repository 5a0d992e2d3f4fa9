"""What a block left behind: its results as kept in the store, and the accumulator over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chainnode.types.codec import merkle_root
from chainnode.types.proof import genesis_accumulator, next_accumulator


class BlockOutcome(Protocol):
    """What the executor returns for a block (`_native.BlockResult`)."""

    @property
    def receipts(self) -> list[bytes]: ...
    @property
    def tx_ids(self) -> list[bytes]: ...
    @property
    def expiry_heights(self) -> list[int]:
        """0 where the receipt did not use the id up: a duplicate, a policy not met."""

    @property
    def receipts_root(self) -> bytes: ...
    @property
    def state_root(self) -> bytes: ...
    @property
    def writes(self) -> list[tuple[bytes, bytes | None]]: ...


class Engine(Protocol):
    """The executor as recovery needs it (`_native.Executor`)."""

    def load(self, entries: Sequence[tuple[bytes, bytes]]) -> None: ...
    def load_window(self, tx_ids: Sequence[bytes], expiry_heights: Sequence[int]) -> None: ...
    def load_head(self, height: int, timestamp_ms: int) -> None: ...
    def genesis(self, genesis: bytes) -> BlockOutcome: ...
    def state_root(self) -> bytes: ...
    def execute_block(self, context: bytes, batch: bytes, verified: bytes) -> BlockOutcome: ...


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one height, as a later header carries them."""

    state_root: bytes
    receipts_root: bytes
    accumulator: bytes

    def encode(self) -> bytes:
        """96 bytes."""
        return self.state_root + self.receipts_root + self.accumulator

    @classmethod
    def decode(cls, data: bytes) -> Results:
        """Read what `encode` wrote."""
        return cls(data[:32], data[32:64], data[64:96])

    def then(self, state_root: bytes, receipts_root: bytes) -> Results:
        """The results one height later."""
        accumulator = next_accumulator(self.accumulator, state_root, receipts_root)
        return Results(state_root, receipts_root, accumulator)


def genesis_results(state_root: bytes) -> Results:
    """The results of height 0: the genesis state and no receipts."""
    empty = merkle_root([])
    return Results(state_root, empty, genesis_accumulator(state_root, empty))


def pack(items: Sequence[bytes]) -> bytes:
    """Byte strings behind one another, each after its u32 length."""
    return b"".join([part for item in items for part in (len(item).to_bytes(4, "big"), item)])


def unpack(data: bytes) -> list[bytes]:
    """Read what `pack` wrote."""
    items, offset = [], 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        items.append(data[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return items
