"""Dependency graphs of the last executed blocks, drawn when somebody asks."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import Protocol

from chainnode.types.errors import ClientFault
from chainnode.types.limits import GRAPH_BLOCKS_MAX, GRAPH_SIZE_MAX_BYTES, GRAPHS_DRAWN_MAX


class Accesses(Protocol):
    """What a block's transactions touched (`_native.BlockAccesses`)."""

    @property
    def size_bytes(self) -> int: ...
    def graph(self, height: int, *, summary_only: bool = False) -> bytes: ...


class BlockGraphs:
    """What the last blocks touched, and their graphs.

    Executing a block leaves its read and write sets; keeping those costs nothing, drawing edges
    does. So the sets of the last blocks are kept, within a budget of heights and of bytes, and a
    graph is drawn at the first question. `keep` may be called from any thread.

    Args:
        blocks_max: heights kept.
        size_max_bytes: memory of the sets kept; the newest block is kept whatever its size.
    """

    def __init__(
        self, blocks_max: int = GRAPH_BLOCKS_MAX, size_max_bytes: int = GRAPH_SIZE_MAX_BYTES
    ) -> None:
        self._blocks_max = blocks_max
        self._size_max_bytes = size_max_bytes
        self._kept: OrderedDict[int, tuple[Accesses, int]] = OrderedDict()
        self._size_bytes = 0
        self._drawn: OrderedDict[tuple[int, bool], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._drawing = asyncio.Lock()

    def keep(self, height: int, accesses: Accesses) -> None:
        """Take the next executed block; the oldest go when the budget is used up."""
        size_bytes = accesses.size_bytes
        with self._lock:
            self._kept[height] = accesses, size_bytes
            self._size_bytes += size_bytes
            while len(self._kept) > 1 and (
                len(self._kept) > self._blocks_max or self._size_bytes > self._size_max_bytes
            ):
                _, (_, freed_bytes) = self._kept.popitem(last=False)
                self._size_bytes -= freed_bytes

    def heights(self) -> tuple[int, int]:
        """First and last height kept; (0, 0) without any."""
        with self._lock:
            return (next(iter(self._kept)), next(reversed(self._kept))) if self._kept else (0, 0)

    async def read(self, height: int, *, summary_only: bool = False) -> bytes:
        """An encoded BlockGraph (height 0: of the last block).

        Drawn off the event loop, one at a time, so that questions take one thread of those that
        views share; the last few are kept.

        Raises:
            ClientFault: GRAPH_NOT_KEPT.
        """
        with self._lock:
            wanted = height or next(reversed(self._kept), 0)
            found = self._kept.get(wanted)
        if found is None:
            raise self._not_kept(height)
        async with self._drawing:
            drawn = self._drawn.get((wanted, summary_only))
            if drawn is None:
                drawn = await asyncio.to_thread(found[0].graph, wanted, summary_only=summary_only)
                self._drawn[wanted, summary_only] = drawn
                if len(self._drawn) > GRAPHS_DRAWN_MAX:
                    self._drawn.popitem(last=False)
            return drawn

    def _not_kept(self, height: int) -> ClientFault:
        first, last = self.heights()
        kept = f"This node keeps those of {first} to {last}." if last else "It keeps none yet."
        return ClientFault(
            "GRAPH_NOT_KEPT",
            f"The graph of block {height} is not kept. {kept}",
            subject=str(height),
            fix="ask for a later block, or record it again: chainnode trace record",
        )
