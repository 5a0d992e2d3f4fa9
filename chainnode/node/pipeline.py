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
from chainnode.node.graphs import BlockGraphs
from chainnode.node.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Work:
    """A committed block to execute."""

    header: types_pb2.BlockHeader
    batch: bytes
    verified: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """An executed block whose results are not stored yet."""

    header: types_pb2.BlockHeader
    result: _native.BlockResult


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

    Two stages, a thread each: while the results of one height are written and synced, the next one
    executes. It waits only for the results that its own header carries.

    Args:
        ledger: takes the results, one synced batch per block.
        executor: the native executor, at the ledger's executed height.
        pool: is told which ids are used up.
        directory: follows member changes.
        graphs: is given what each block touched.
        metrics: execution times.
    """

    def __init__(
        self,
        ledger: Ledger,
        executor: _native.Executor,
        pool: _native.TxPool,
        directory: MemberDirectory,
        graphs: BlockGraphs,
        metrics: Metrics,
    ) -> None:
        self._ledger = ledger
        self._executor = executor
        self._pool = pool
        self._directory = directory
        self._graphs = graphs
        self._metrics = metrics
        self._queue: asyncio.Queue[Work] = asyncio.Queue()
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue(1)
        self._advanced = asyncio.Condition()
        self._listeners: list[Listener] = []
        self._executing = ThreadPoolExecutor(1, thread_name_prefix="execute")
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="store")

    def listen(self, listener: Listener) -> None:
        """Call `listener` on the event loop after every executed block, in order."""
        self._listeners.append(listener)

    def enqueue(self, work: Work) -> None:
        """Take the next committed block."""
        self._queue.put_nowait(work)

    async def results(self, height: int) -> Results:
        """The results of `height`, waiting until it is executed and stored."""
        if self._ledger.executed_height < height:
            async with self._advanced:
                await self._advanced.wait_for(lambda: self._ledger.executed_height >= height)
        results = self._ledger.results(height)
        assert results is not None
        return results

    async def run(self) -> None:
        """Execute until cancelled.

        Raises:
            InternalError: STATE_DIVERGED or STORAGE_FAILED, in a group; the node stops.
        """
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self._execute_all(), name="execute")
            stages.create_task(self._store_all(), name="store")

    def close(self) -> None:
        """Let the blocks in hand finish, so that a batch is written or not begun."""
        self._executing.shutdown(wait=True)
        self._storing.shutdown(wait=True)

    async def _execute_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            work = await self._queue.get()
            await self.results(work.header.exec_height)
            result = await loop.run_in_executor(self._executing, self._execute, work)
            await self._outcomes.put(Outcome(work.header, result))

    async def _store_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            outcome = await self._outcomes.get()
            executed = await loop.run_in_executor(self._storing, self._store, outcome)
            for listener in self._listeners:
                listener(executed)
            async with self._advanced:
                self._advanced.notify_all()

    def _execute(self, work: Work) -> _native.BlockResult:
        header = work.header
        with self._metrics.execution_seconds.time():
            self._ledger.check_results(header)
            return self._executor.execute_block(block_context(header), work.batch, work.verified)

    def _store(self, outcome: Outcome) -> Executed:
        header, result = outcome.header, outcome.result
        with self._metrics.store_write_seconds.time():
            self._ledger.apply(header.height, result)
        self._directory.update(result.writes)
        self._graphs.keep(header.height, result.accesses)
        executed = Executed(header, result.tx_ids, result.expiry_heights)
        self._pool.executed(executed.tx_ids, executed.expiry_heights, header.height)
        return executed
