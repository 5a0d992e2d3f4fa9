"""When a height begins: there is work, and the block interval has passed or the block is full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from chainnode._proto import types_pb2
from chainnode.node.chain import Chain


class Pacer:
    """Tells consensus that a height should have a block.

    An idle chain adds empty blocks only until a header carries the results of the last
    transaction, so that it can be proven; then it is silent.

    Args:
        chain: tip and pool.
        config: the execution depth.
        begin: starts the height; repeats are harmless.
    """

    def __init__(
        self, chain: Chain, config: types_pb2.ChainConfig, begin: Callable[[], None]
    ) -> None:
        self._chain = chain
        self._config = config
        self._begin = begin
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Transactions arrived or a block was committed."""
        self._changed.set()

    async def run(self) -> None:
        """Pace until cancelled."""
        self._changed.set()
        begun = -1
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._has_work() and begun < self._chain.tip.height:
                delay_seconds = self._delay_seconds()
                if delay_seconds > 0:
                    await self._wait(delay_seconds)
                    continue
                begun = self._chain.tip.height
                self._begin()

    def _has_work(self) -> bool:
        tip = self._chain.tip
        # A new chain shows at once that it lives: blocks until execution overlaps with ordering.
        young = tip.height <= self._config.execution_depth
        return young or tip.results_pending or len(self._chain.pool) > 0

    def _delay_seconds(self) -> float:
        header = self._chain.tip.header
        if header is None:
            return 0.0
        if len(self._chain.pool) >= header.architecture.block_tx_cap:
            return 0.0
        due = self._chain.committed_at_seconds + header.architecture.block_interval_ms / 1_000
        return due - time.monotonic()

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return
        self._changed.clear()
