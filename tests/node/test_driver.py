"""The driver: what moves the height, what may leave the consensus log, what a peer may fill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from forks.four_nodes import FourNodes

from chainnode.consensus.interface import BlockSynced, Persist
from chainnode.consensus.signer import Signed
from chainnode.consensus.wal import RecordType, WalRecord, decode_records
from chainnode.node import driver as driver_module
from chainnode.types.codec import encode
from chainnode.types.errors import InternalError
from chainnode.types.limits import PEER_EVENTS_MAX
from chainnode.types.vote import NIL, Vote, VoteSummary, VoteType


@pytest.fixture
async def four(tmp_path: Path) -> AsyncIterator[FourNodes]:
    chain = FourNodes(tmp_path / "testnet")
    yield chain
    await chain.close()


def own_vote(four: FourNodes, height: int, round_number: int = 0) -> Persist:
    """What the engine asks to make durable before such a vote leaves."""
    signer = four.nodes[0].identity
    unsigned = Vote(VoteType.PREVOTE, height, round_number, NIL, 1, signer.address, 0, bytes(64))
    signed = Signed.of(unsigned, four.layout.chain_id)
    return Persist((WalRecord(height, RecordType.VOTE, encode(unsigned.to_proto())),), signed)


def heights(four: FourNodes) -> list[int]:
    return [item.height for item in decode_records(four.nodes[0].driver._wal.contents()).records]


async def test_a_stale_sync_keeps_the_votes_of_this_height(
    four: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "WAL_PRUNE_SIZE_BYTES", 0)
    node = four.nodes[0]
    stale = node.tip.state()
    for height in (1, 2):
        await node.driver._carry_out(own_vote(four, height))
    await node.driver._deliver(BlockSynced(1, stale))
    assert heights(four) == [1, 2]
    assert node.signer_file.last == (0, 2, 0, 2)

    # The height really moves: what is below it goes, what is of it stays.
    await four.step()
    await node.driver._deliver(BlockSynced(2, node.tip.state()))
    assert (node.driver.position()[0], heights(four)) == (2, [2])
    await node.driver._deliver(BlockSynced(3, stale))
    assert heights(four) == [2]
    # The log goes on after the cut, and a restart reads it.
    await node.driver._carry_out(own_vote(four, 2, 1))
    await four.stop(0)
    four.start(0)
    assert heights(four) == [2, 2]
    assert four.nodes[0].signer_file.last == (0, 2, 1, 2)


async def test_one_peer_fills_only_its_own_share_of_the_queue(four: FourNodes) -> None:
    """The engine is not running: whoever floods waits, the others are still heard."""
    driver = four.nodes[0].driver
    liar, honest = four.nodes[1].identity.address, four.nodes[2].identity.address
    summary = VoteSummary(1, 0, False, (), ())

    async def flood() -> None:
        while True:
            await driver.received(liar, summary)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 0.5)
    assert driver._events.qsize() == PEER_EVENTS_MAX
    await asyncio.wait_for(driver.received(honest, summary), 0.5)
    assert driver._events.qsize() == PEER_EVENTS_MAX + 1


async def test_a_vote_behind_what_the_signer_remembers_never_leaves(four: FourNodes) -> None:
    node = four.nodes[0]
    await node.driver._carry_out(own_vote(four, 3))
    with pytest.raises(InternalError) as refused:
        await node.driver._carry_out(own_vote(four, 2))
    assert refused.value.code == "DOUBLE_SIGN"
