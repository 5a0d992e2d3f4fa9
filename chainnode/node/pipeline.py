"""Execution beside ordering: committed blocks, one after another, in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.ledger.ledger import Ledger, block_context
from chainnode.ledger.results import Results
from chainnode.node.directory import MemberDirectory
from chainnode.node.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Work:
    """A committed block to execute."""

    header: types_pb2.BlockHeader
    batch: bytes
    verified: bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """What executing a block gave, as listeners need it.

    Args:
        header: of the block.
        tx_ids: of all its transactions, in order.
        expiry_heights: last height at which each id could be replayed; 0 where it is not used up.
    """

    header: types_pb2.BlockHeader
    tx_ids: list[bytes]
    expiry_heights: list[int]


Listener = Callable[[Executed], None]


class Pipeline:
    """Executes committed blocks in order and keeps their results.

    Args:
        ledger: takes the results, one synced batch per block.
        executor: the native executor, at the ledger's executed height.
        directory: follows member changes.
        metrics: execution times.
    """

    def __init__(
        self,
        ledger: Ledger,
        executor: _native.Executor,
        directory: MemberDirectory,
        metrics: Metrics,
    ) -> None:
        self._ledger = ledger
        self._executor = executor
        self._directory = directory
        self._metrics = metrics
        self._queue: asyncio.Queue[Work] = asyncio.Queue()
        self._advanced = asyncio.Condition()
        self._listeners: list[Listener] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="execute")

    def listen(self, listener: Listener) -> None:
        """Call `listener` on the event loop after every executed block, in order."""
        self._listeners.append(listener)

    def enqueue(self, work: Work) -> None:
        """Take the next committed block."""
        self._queue.put_nowait(work)

    async def results(self, height: int) -> Results:
        """The results of `height`, waiting until it is executed."""
        if self._ledger.executed_height < height:
            async with self._advanced:
                await self._advanced.wait_for(lambda: self._ledger.executed_height >= height)
        results = self._ledger.results(height)
        assert results is not None
        return results

    async def run(self) -> None:
        """Execute until cancelled.

        Raises:
            InternalError: STATE_DIVERGED or STORAGE_FAILED; the node stops.
        """
        loop = asyncio.get_running_loop()
        while True:
            work = await self._queue.get()
            executed = await loop.run_in_executor(self._thread, self._execute, work)
            for listener in self._listeners:
                listener(executed)
            async with self._advanced:
                self._advanced.notify_all()

    def close(self) -> None:
        """Let the block in hand finish, so that its batch is written or not begun."""
        self._thread.shutdown(wait=True)

    def _execute(self, work: Work) -> Executed:
        header = work.header
        with self._metrics.execution_seconds.time():
            self._ledger.check_results(header)
            outcome = self._executor.execute_block(block_context(header), work.batch, work.verified)
        with self._metrics.store_write_seconds.time():
            self._ledger.apply(header.height, outcome)
        self._directory.update(outcome.writes)
        return Executed(header, outcome.tx_ids, outcome.expiry_heights)
