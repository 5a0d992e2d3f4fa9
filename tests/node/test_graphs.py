"""Graphs of the last blocks: the same on every node, within a budget, refused by name beyond."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from forks.four_nodes import FourNodes

from chainnode._proto import types_pb2
from chainnode.node.graphs import BlockGraphs
from chainnode.types.errors import ClientFault


@pytest.fixture
async def four(tmp_path: Path) -> AsyncIterator[FourNodes]:
    chain = FourNodes(tmp_path / "testnet")
    yield chain
    await chain.close()


def graph(data: bytes) -> types_pb2.BlockGraph:
    return types_pb2.BlockGraph.FromString(data)


async def change_one_member_twice(four: FourNodes) -> None:
    """A block whose second transaction overwrites the record that the first one wrote."""
    address = four.identity("registry/client").address
    four.submit(
        four.change("member_freeze", address, 1), four.change("member_unfreeze", address, 2)
    )
    receipts = await four.step()
    assert [receipt.status for receipt in receipts] == [types_pb2.RECEIPT_STATUS_OK] * 2


async def test_every_node_draws_the_same_graph(four: FourNodes) -> None:
    await change_one_member_twice(four)
    drawn = [await node.graphs.read(1) for node in four.nodes]
    assert len(set(drawn)) == 1
    found = graph(drawn[0])
    assert [list(vertex.neighbors) for vertex in found.vertices] == [[], [0]]
    assert found.vertices[1].causes[0] & 2, "it overwrites what the first one wrote"
    assert graph(await four.nodes[0].graphs.read(0)) == found, "0 is the last block"
    summary = graph(await four.nodes[0].graphs.read(1, summary_only=True))
    assert not summary.vertices and summary.hot_keys == found.hot_keys


async def test_a_height_that_is_not_kept_is_refused_by_name(four: FourNodes) -> None:
    graphs = four.nodes[0].graphs
    with pytest.raises(ClientFault, match="keeps none yet") as refused:
        await graphs.read(0)
    assert refused.value.code == "GRAPH_NOT_KEPT"
    four.submit(four.call(1))
    await four.step()
    with pytest.raises(ClientFault, match="keeps those of 1 to 1") as refused:
        await graphs.read(2)
    assert "trace record" in str(refused.value)


async def test_the_oldest_go_when_heights_or_bytes_are_used_up(four: FourNodes) -> None:
    executor, context = four.nodes[0].executor, types_pb2.BlockContext()
    results = []
    for height in (1, 2, 3):
        context.height = height
        body = types_pb2.TransactionBatch(transactions=[four.call(height).encode()])
        arguments = (context.SerializeToString(), body.SerializeToString(), b"\1")
        results.append(executor.execute_block(*arguments).accesses)
    size_bytes = results[0].size_bytes
    assert size_bytes > 0
    for graphs, first in (
        (BlockGraphs(blocks_max=2), 2),
        (BlockGraphs(size_max_bytes=2 * size_bytes + 10), 2),
        (BlockGraphs(size_max_bytes=1), 3),
    ):
        for height, accesses in enumerate(results, 1):
            graphs.keep(height, accesses)
        assert graphs.heights() == (first, 3)
        assert graph(await graphs.read(first)).height == first
        with pytest.raises(ClientFault, match=f"of {first} to 3"):
            await graphs.read(first - 1)
