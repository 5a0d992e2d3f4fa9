"""Four real node processes: one loses its data folder in the middle of voting, not its signer."""

from __future__ import annotations

import asyncio
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainnode.ledger.signer_file import SignerFile
from chainnode.node.testnet import ProcessPlace
from node.running_testnet import RunningTestnet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]


def conflicts(place: ProcessPlace) -> float:
    """How often a node saw a validator sign two values."""
    with urllib.request.urlopen(f"http://{place.metrics}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found = [
        line for line in lines if line.startswith("chainnode_consensus_byzantine_evidence_total ")
    ]
    return float(found[0].split()[1])


@pytest.fixture
def testnet(tmp_path: Path) -> Iterator[RunningTestnet]:
    running = RunningTestnet(tmp_path / "testnet")
    running.start()
    yield running
    running.stop()


async def test_an_emptied_node_rejoins_by_sync_and_signs_nothing_twice(
    testnet: RunningTestnet,
) -> None:
    await testnet.deploy_asset(1_000_000)
    other = testnet.identity("registry/client").address
    acknowledged: list[bytes] = []
    loading = True

    async def load() -> None:
        async with testnet.client(only=0) as client:
            asset = client.contract("asset")
            while loading:
                receipt = await asset.submit("transfer", to=other, amount=1)
                acknowledged.append(receipt.tx_id)

    async def until(count: int) -> None:
        while len(acknowledged) < count:
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(load()) for _ in range(4)]
    lost = testnet.layout.nodes[3]
    state = lost.identity / "signer.state"
    for _ in range(2):
        await until(len(acknowledged) + 30)
        testnet.kill(3)
        shutil.rmtree(lost.data_dir)
        await asyncio.to_thread(testnet.start, [3])
    await until(len(acknowledged) + 30)
    # Now nothing is decided without the emptied node's votes.
    testnet.kill(2)
    await until(len(acknowledged) + 30)
    loading = False
    await asyncio.gather(*tasks)

    assert [conflicts(testnet.layout.nodes[index]) for index in (0, 1, 3)] == [0, 0, 0]
    async with testnet.client(only=0) as one, testnet.client(only=3) as emptied:
        for tx_id in acknowledged:
            places = [await client.get_tx(tx_id, 10_000) for client in (one, emptied)]
            assert places[0].found and places[0].receipt == places[1].receipt
            assert (places[0].height, places[0].index) == (places[1].height, places[1].index)
        height = (await emptied.status()).height
        genesis_hash = (await one.status()).genesis_hash
    await asyncio.to_thread(testnet.stop)
    signer = SignerFile(state, genesis_hash)
    signer.close()
    assert signer.last is not None and signer.last[1] >= height - 1
