"""The next block executes while the results of the last one are written, and no further."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from forks.four_nodes import FourNodes

from chainnode.ledger.store import Write
from chainnode.node.composition import Node
from chainnode.types.errors import InternalError


@pytest.fixture
async def four(tmp_path: Path) -> AsyncIterator[FourNodes]:
    chain = FourNodes(tmp_path / "testnet")
    yield chain
    await chain.close()


class SlowDisk:
    """Holds a node's next result batch back until it is let go."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        write = node.ledger.store.write

        def held(writes: Iterable[Write]) -> None:
            self.reached.set()
            self.go.wait(30)
            write(writes)

        monkeypatch.setattr(node.ledger.store, "write", held)


async def commit(four: FourNodes, salt: int) -> None:
    """One more block at the first node, without a wait for its results."""
    node = four.nodes[0]
    four.submit(four.call(salt), to=(0,))
    block = await four.build()
    assert await four.verdicts(block, (0,)) == [""]
    assert await node.chain.commit(block, block.hash(), four.certificate(block))


async def test_a_block_executes_while_the_one_before_is_written(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = four.nodes[0]
    before = node.executor.state_root()
    disk = SlowDisk(node, monkeypatch)
    try:
        await commit(four, 1)
        await asyncio.to_thread(disk.reached.wait, 30)
        await commit(four, 2)
        async with asyncio.timeout(30):
            while node.pipeline._outcomes.empty():
                await asyncio.sleep(0.001)
        # Nothing of either is announced before it is written.
        assert node.ledger.executed_height == 0
        assert node.ledger.results(1) is None
    finally:
        disk.go.set()
    await node.pipeline.results(2)
    assert node.executor.state_root() == before
    assert len(four.receipts(1)) == len(four.receipts(2)) == 1
    assert node.pool.pending([four.call(1).tx_id(), four.call(2).tx_id()]) == []


async def test_a_header_with_results_not_written_yet_waits_for_them(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = four.nodes[0]
    disk = SlowDisk(node, monkeypatch)
    try:
        await commit(four, 1)
        await commit(four, 2)
        third = asyncio.create_task(commit(four, 3))
        await asyncio.to_thread(disk.reached.wait, 30)
        done, _ = await asyncio.wait({third}, timeout=0.2)
        assert not done
    finally:
        disk.go.set()
    await third
    await node.pipeline.results(3)


async def test_a_failed_write_ends_the_pipeline_with_its_reason(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = four.nodes[0]

    def fail(writes: Iterable[Write]) -> None:
        raise InternalError("STORAGE_FAILED", "A write failed.")

    monkeypatch.setattr(node.ledger.store, "write", fail)
    await commit(four, 1)
    with pytest.raises(BaseExceptionGroup) as ended:
        await asyncio.wait_for(four._execution[0], 30)
    assert ended.group_contains(InternalError, match="A write failed")
    assert node.ledger.executed_height == 0


async def test_a_node_that_dies_between_the_stages_recovers(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(four.nodes[0], monkeypatch)
    await commit(four, 1)
    await commit(four, 2)
    await asyncio.to_thread(disk.reached.wait, 30)
    stopping = asyncio.create_task(four.stop(0))
    await asyncio.sleep(0)
    disk.go.set()
    await stopping
    four.start(0)
    assert four.nodes[0].ledger.executed_height == 2
    assert len(four.receipts(2)) == 1
