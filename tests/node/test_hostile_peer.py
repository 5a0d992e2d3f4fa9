"""What one lying validator can send a node, and what it must not cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from forks.four_nodes import FourNodes, batch, with_transactions

from chainnode._proto import peer_pb2, types_pb2
from chainnode.consensus.interface import ValidateBlock
from chainnode.network import wire
from chainnode.node import admission, block_sync
from chainnode.node.backend import NodeBackend
from chainnode.node.block_sync import BlockSync
from chainnode.node.peers import Peers
from chainnode.types.codec import encode
from chainnode.types.errors import PeerFault


@pytest.fixture
async def four(tmp_path: Path) -> AsyncIterator[FourNodes]:
    chain = FourNodes(tmp_path / "testnet")
    yield chain
    await chain.close()


async def test_bodies_that_no_proposal_needs_are_not_kept(four: FourNodes) -> None:
    node, peer = four.nodes[0], four.nodes[1].identity.address
    wanted, junk = four.call(1), four.call(2)
    message = wire.BatchMessage(batch(wanted, junk), bodies=True)
    await node.peers.batch(peer, message)
    assert len(node.pool.missing([wanted.wid(), junk.wid()])) == 2
    node.peers.request_bodies(peer, 1, [wanted.wid()])
    await node.peers.batch(peer, message)
    assert node.pool.missing([wanted.wid(), junk.wid()]) == [junk.wid()]
    # Once its height is decided nothing of it is taken any more.
    late = four.call(3)
    node.peers.request_bodies(peer, 1, [late.wid()])
    await four.step()
    await node.peers.batch(peer, wire.BatchMessage(batch(late), bodies=True))
    assert node.pool.missing([late.wid()]) == [late.wid()]


async def test_a_block_of_too_many_bytes_is_refused_before_they_have_all_come(
    four: FourNodes,
) -> None:
    node, liar = four.nodes[0], four.nodes[1].identity.address
    here, never = four.call(1), four.call(2)
    block = with_transactions(await four.build(), [here.wid(), never.wid()])
    node.application._config.block_size_max_bytes = len(here.encode()) - 1
    node.peers.request_bodies(liar, 1, [here.wid()])
    await node.peers.batch(liar, wire.BatchMessage(batch(here), bodies=True))
    verdict = await asyncio.wait_for(node.application.validate(ValidateBlock(block, liar)), 5)
    assert "larger" in verdict.reason
    assert node.peers._wanted == {}


async def test_a_body_request_for_no_wid_is_a_fault_of_the_peer(four: FourNodes) -> None:
    node, peer = four.nodes[0], four.nodes[1].identity.address
    node.peers._consensus = node.driver
    request = peer_pb2.BodyRequest(height=1, wids=[b"short"])
    with pytest.raises(PeerFault) as refused:
        await node.peers.message(peer, peer_pb2.PeerMessage(body_request=request))
    assert refused.value.code == "PEER_MESSAGE_MALFORMED"


async def test_gossip_that_waits_has_a_limit_in_bytes(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "GOSSIP_QUEUE_SIZE_MAX_BYTES", 1_000)
    taking = four.nodes[0].admission
    for _ in range(10):
        taking.from_peer(encode(types_pb2.TransactionBatch(transactions=[bytes(297)])))
    assert len(taking._peers) == 3
    running = asyncio.create_task(taking.run())
    while taking._peers:
        await asyncio.sleep(0)
    running.cancel()
    sent = four.call(1)
    taking.from_peer(batch(sent))
    assert len(taking._peers) == 1


class OtherPeers(Peers):
    """Peers whose blocks a test makes up."""

    def __init__(self, four: FourNodes, liar: bytes) -> None:
        node = four.nodes[3]
        super().__init__(list(node.peers.links.values()), node.ledger, node.pool, node.admission)
        self.asked: list[bytes] = []
        self._liar = liar
        self._honest = four.nodes[0].peers

    async def blocks(self, peer: bytes, from_height: int, count: int) -> AsyncIterator[bytes]:
        self.asked.append(peer)
        if peer == self._liar:
            await asyncio.Event().wait()
        for height in range(from_height, from_height + count):
            data = self._honest.committed_block(height)
            if data is None:
                return
            yield data


async def test_a_liar_that_never_answers_does_not_keep_a_node_behind(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_sync, "BLOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(block_sync, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(block_sync, "SYNC_BLOCKS_PER_REQUEST_MAX", 1)
    everyone = [node.identity.address for node in four.nodes]
    for salt in range(4):
        four.submit(four.call(salt), to=(0, 1, 2))
        block = await four.build()
        await four.verdicts(block, (0, 1, 2))
        await four.commit(block, four.certificate(block), at=(0, 1, 2))
    liar, honest = everyone[1], everyone[0]
    peers = OtherPeers(four, liar)
    behind = four.nodes[3]
    sync = BlockSync(four.layout.chain_id, behind.chain, peers, lambda: None)
    running = asyncio.create_task(sync.run())
    async with asyncio.timeout(10):
        while behind.tip.height < 4:
            # It claims the moon, again and again.
            sync.behind(liar, 1_000_000)
            sync.behind(honest, 4)
            await asyncio.sleep(0.01)
    running.cancel()
    assert peers.asked.count(liar) <= 2
    assert encode(behind.tip.state().last_commit.to_proto())


async def test_a_stripped_copy_does_not_answer_who_waits_for_the_genuine_one(
    four: FourNodes,
) -> None:
    node = four.nodes[0]
    backend = NodeBackend(
        "test",
        node.genesis,
        node.chain,
        node.executor,
        node.admission,
        node.peers,
        node.architecture,
        node.graphs,
    )
    genuine = four.change("member_freeze", four.identity("registry/client").address, 1)
    stripped = genuine.with_endorsements(())
    four.submit(genuine)
    waiting = asyncio.create_task(backend.wait_executed(genuine.tx_id(), 20_000))
    await asyncio.sleep(0)
    four.carry(stripped)
    await four.step(stripped.wid())
    late = asyncio.create_task(backend.wait_executed(genuine.tx_id(), 20_000))
    done, _ = await asyncio.wait({waiting, late}, timeout=0.1)
    assert not done
    await four.step()
    await asyncio.wait_for(asyncio.gather(waiting, late), 5)
    receipt = backend.transaction(genuine.tx_id()).receipt
    assert receipt.status == types_pb2.RECEIPT_STATUS_OK
    assert receipt.wid == genuine.wid()
    await asyncio.wait_for(backend.wait_executed(genuine.tx_id(), 20_000), 1)
