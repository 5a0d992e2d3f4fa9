"""The event stream: read once for all subscribers, equal to the block and its receipts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from forks.four_nodes import FourNodes

from chainnode._proto import node_pb2, types_pb2
from chainnode.node.backend import NodeBackend
from chainnode.types.errors import InternalError


@pytest.fixture
async def four(tmp_path: Path) -> AsyncIterator[FourNodes]:
    chain = FourNodes(tmp_path / "testnet")
    yield chain
    await chain.close()


def backend_of(four: FourNodes) -> NodeBackend:
    node = four.nodes[0]
    return NodeBackend(
        "first",
        node.genesis,
        node.chain,
        node.executor,
        node.admission,
        node.peers,
        node.architecture,
        node.graphs,
    )


async def test_all_subscribers_see_each_block_and_it_is_read_once(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, ledger = backend_of(four), four.nodes[0].ledger
    for salt in range(2):
        four.submit(four.call(salt))
        await four.step()
    asked: list[int] = []
    receipts = ledger.receipts
    monkeypatch.setattr(ledger, "receipts", lambda height: asked.append(height) or receipts(height))
    request = node_pb2.SubscribeRequest(from_height=1)

    async def first_two() -> list[node_pb2.BlockEvents]:
        stream = backend.block_events(request)
        return [await anext(stream), await anext(stream)]

    seen = await asyncio.gather(first_two(), first_two(), first_two())
    assert seen[0] == seen[1] == seen[2]
    assert asked == [1, 2]
    for events in seen[0]:
        logged = ledger.block(events.height)
        assert logged is not None and events.block_hash == logged.block_hash
        assert [item.tx_id for item in events.transactions] == ledger.tx_ids(events.height)
        assert events.transactions[0].status != types_pb2.RECEIPT_STATUS_UNSPECIFIED


async def test_a_block_that_could_not_be_read_is_read_again(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, log = backend_of(four), four.nodes[0].ledger.log
    four.submit(four.call(1))
    await four.step()

    def damaged(height: int) -> bytes:
        raise InternalError("BLOCK_LOG_DAMAGED", "The block log is damaged.")

    request = node_pb2.SubscribeRequest(from_height=1)
    with monkeypatch.context() as patch:
        patch.setattr(log, "read_block", damaged)
        with pytest.raises(InternalError):
            await anext(backend.block_events(request))
    assert (await anext(backend.block_events(request))).height == 1
