"""The one way a block becomes final here: certificate synced, pool told, execution queued."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from chainnode import _native
from chainnode.ledger.ledger import Ledger
from chainnode.node.disk import Disk
from chainnode.node.metrics import Metrics
from chainnode.node.pipeline import Executed, Pipeline, Work
from chainnode.node.tip import Tip
from chainnode.types.block import Block
from chainnode.types.codec import encode
from chainnode.types.vote import CommitCertificate


class Chain:
    """Commits decided or synchronised blocks. Idempotent by height.

    Args:
        ledger: keeps them.
        tip: moves with them.
        pool: forgets their transactions.
        pipeline: executes them.
        disk: makes them durable.
        metrics: heights and intervals.
    """

    def __init__(
        self,
        ledger: Ledger,
        tip: Tip,
        pool: _native.TxPool,
        pipeline: Pipeline,
        disk: Disk,
        metrics: Metrics,
    ) -> None:
        self.ledger = ledger
        self.tip = tip
        self.pool = pool
        self.pipeline = pipeline
        self.committed_at_seconds = time.monotonic()
        self._disk = disk
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        pipeline.listen(self._on_executed)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit."""
        self._listeners.append(listener)

    async def keep_body(self, block: Block, block_hash: bytes, batch: bytes) -> None:
        """Make a block's body durable; a vote for it may follow."""
        if not self.ledger.log.holds_body(block.height, block_hash):
            await self._disk.write(
                self.ledger.log.append_body, block.height, block_hash, block.encode(), batch
            )

    async def commit(self, block: Block, block_hash: bytes, certificate: CommitCertificate) -> bool:
        """Make a decided block final; its body is in the log. False when it was final before."""
        async with self._lock:
            if block.height <= self.tip.height:
                return False
            work = await self._disk.write(self._make_final, block, block_hash, certificate)
            self.tip.advance(block, block_hash, certificate)
            self.pipeline.enqueue(work)
            self._measure(block)
        for listener in self._listeners:
            listener()
        return True

    def _make_final(self, block: Block, block_hash: bytes, certificate: CommitCertificate) -> Work:
        """Certificate synced, pool told; what is left to execute. Off the event loop: reading the
        body and forgetting a block's transactions take milliseconds."""
        kept = self.ledger.log.read_body(block.height, block_hash)
        assert kept is not None, "a block is committed only after its body is kept"
        self.ledger.log.append_commit(block.height, block_hash, encode(certificate.to_proto()))
        verified = self.pool.verified(block.wids)
        self.pool.commit(block.wids, block.height)
        return Work(block.header.to_proto(), kept[1], verified)

    def _measure(self, block: Block) -> None:
        now = time.monotonic()
        self._metrics.block_interval_seconds.observe(now - self.committed_at_seconds)
        self.committed_at_seconds = now
        self._metrics.height.set(block.height)
        self._metrics.transactions.inc(len(block.wids))

    def _on_executed(self, executed: Executed) -> None:
        self._metrics.executed_height.set(executed.header.height)
