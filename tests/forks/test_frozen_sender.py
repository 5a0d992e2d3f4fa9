"""A sender frozen between admission and block: the same outcome whatever a node remembers."""

from __future__ import annotations

import shutil

import pytest

from chainnode._proto import types_pb2
from forks.four_nodes import EVERYONE, FourNodes, with_transactions

OK = types_pb2.RECEIPT_STATUS_OK
FROZEN = types_pb2.RECEIPT_STATUS_MEMBER_FROZEN
EXECUTED = types_pb2.RECEIPT_STATUS_UNKNOWN_CONTRACT


@pytest.mark.parametrize("together", [True, False], ids=["one block", "two blocks"])
async def test_a_sender_frozen_between_admission_and_block_is_refused_alike_warm_or_restarted(
    four: FourNodes, together: bool
) -> None:
    address = four.identity("bank-a/client").address
    freeze = four.change("member_freeze", address, 1)
    late = four.call(2)
    # Admitted while the sender was active: signatures known to be valid at every node.
    assert four.submit(freeze, late) == [[1, 1]] * len(EVERYONE)
    wids = [freeze.wid(), late.wid()]
    if not together:
        await four.step(freeze.wid())
        wids = [late.wid()]
    block = with_transactions(await four.build(), wids)
    assert await four.verdicts(block) == [""] * len(EVERYONE)
    # Two nodes die after their vote: they have the bodies, and no longer know the signatures.
    for index in (2, 3):
        await four.stop(index)
        four.start(index)
    verified = [node.pool.verified(wids) for node in four.nodes]
    assert verified == [b"\x01" * len(wids)] * 2 + [bytes(len(wids))] * 2
    results_then = await four.commit(block, four.certificate(block))
    assert len(set(results_then)) == 1
    found = four.receipts(1) + (four.receipts(2) if not together else [])
    assert [receipt.status for receipt in found] == [OK, FROZEN]
    heights = range(1, four.nodes[0].tip.height + 1)
    receipts = [four.nodes[0].ledger.receipts(height) for height in heights]
    results = [four.nodes[0].ledger.results(height) for height in heights]

    # Reloaded from the store, and rebuilt from the block log alone.
    await four.stop(1)
    four.start(1)
    await four.stop(2)
    shutil.rmtree(four.layout.nodes[2].data_dir / "state")
    four.start(2)
    for node in four.nodes:
        assert [node.ledger.receipts(height) for height in heights] == receipts
        assert [node.ledger.results(height) for height in heights] == results
        assert node.executor.state_root() == four.nodes[0].executor.state_root()

    # The refused transaction did not use its id up: unfrozen, the sender may send it again.
    unfreeze = four.change("member_unfreeze", address, 3)
    four.carry(unfreeze, late)
    found = await four.step(unfreeze.wid(), late.wid())
    assert [receipt.status for receipt in found] == [OK, EXECUTED]
