"""One id, one effect: whatever signatures a copy carries, and whatever was restarted."""

from __future__ import annotations

import pytest

from chainnode._proto import node_pb2, types_pb2
from chainnode.types.transaction import Transaction
from forks.four_nodes import EVERYONE, FourNodes, forged

EXECUTED = types_pb2.RECEIPT_STATUS_UNKNOWN_CONTRACT
"""What a call of a contract that does not exist ends with; it uses the id up."""
POLICY_NOT_MET = types_pb2.RECEIPT_STATUS_POLICY_NOT_MET
DUPLICATE = types_pb2.RECEIPT_STATUS_DUPLICATE
BAD_ENDORSEMENT = types_pb2.RECEIPT_STATUS_BAD_ENDORSEMENT
KNOWN, ACCEPTED = node_pb2.ADMISSION_KNOWN, node_pb2.ADMISSION_ACCEPTED


def statuses(receipts: list[types_pb2.Receipt]) -> list[int]:
    return [receipt.status for receipt in receipts]


def endorsed(chain: FourNodes, transaction: Transaction) -> Transaction:
    admin = chain.identity("guarantor/admin")
    return transaction.endorse(admin.public_key, admin)


async def test_one_id_with_two_endorsement_sets_runs_once(four: FourNodes) -> None:
    plain = four.call(1)
    other = endorsed(four, plain)
    assert plain.tx_id() == other.tx_id() and plain.wid() != other.wid()
    # Half of the nodes were told one, half the other; the block has both, in one order.
    four.submit(plain, to=(0, 1))
    four.submit(other, to=(2, 3))
    four.carry(plain, other)
    assert statuses(await four.step(other.wid(), plain.wid())) == [EXECUTED, DUPLICATE]
    for node in four.nodes:
        assert node.ledger.locate(plain.tx_id()) == (1, 0)
        assert len(node.pool) == 0
    assert four.submit(plain, other) == [[KNOWN, KNOWN]] * 4


async def test_one_id_with_two_endorsement_sets_in_two_blocks_runs_once(four: FourNodes) -> None:
    plain = four.call(1)
    other = endorsed(four, plain)
    four.carry(plain, other)
    assert statuses(await four.step(plain.wid())) == [EXECUTED]
    four.carry(other)
    assert statuses(await four.step(other.wid())) == [DUPLICATE]
    assert {node.ledger.locate(plain.tx_id()) for node in four.nodes} == {(1, 0)}


@pytest.mark.parametrize("bad", ["signature", "endorsement"])
@pytest.mark.parametrize("apart", [True, False], ids=["two blocks", "one block"])
async def test_a_forged_copy_in_a_block_does_not_burn_the_id(
    four: FourNodes, bad: str, apart: bool
) -> None:
    genuine = four.call(1)
    stranger = endorsed(four, four.call(2)).endorsements
    copy = forged(genuine) if bad == "signature" else genuine.with_endorsements(stranger)
    assert copy.tx_id() == genuine.tx_id() and copy.wid() != genuine.wid()
    four.carry(copy)
    if apart:
        # Two nodes knew the genuine one before the forged one came, two hear of it after.
        four.submit(genuine, to=(0, 1))
        assert statuses(await four.step(copy.wid())) == [BAD_ENDORSEMENT]
        assert {node.ledger.locate(genuine.tx_id()) for node in four.nodes} == {(1, 0)}
        assert four.submit(genuine, to=(2, 3)) == [[ACCEPTED]] * 2
        assert {tuple(node.pool.propose(9, 9_999)) for node in four.nodes} == {(genuine.wid(),)}
        assert statuses(await four.step()) == [EXECUTED]
    else:
        four.submit(genuine)
        found = await four.step(copy.wid(), genuine.wid())
        assert statuses(found) == [BAD_ENDORSEMENT, EXECUTED]
    # Pool and ledger agree about the id: used up, by the genuine copy.
    place = (2, 0) if apart else (1, 1)
    for node in four.nodes:
        assert node.ledger.locate(genuine.tx_id()) == place
        assert len(node.pool) == 0
    assert four.submit(genuine, copy) == [[KNOWN, KNOWN]] * 4
    four.carry(copy)
    assert statuses(await four.step(copy.wid())) == [DUPLICATE]
    assert {node.ledger.locate(genuine.tx_id()) for node in four.nodes} == {place}


async def test_stripped_endorsements_do_not_burn_the_id(four: FourNodes) -> None:
    """Anyone may take the endorsements off another's transaction and have it ordered first."""
    address = four.identity("registry/client").address
    genuine = four.change("member_freeze", address, 1)
    stripped = genuine.with_endorsements(())
    assert stripped.tx_id() == genuine.tx_id() and stripped.wid() != genuine.wid()
    four.carry(stripped)
    four.submit(genuine, to=(0, 1))
    assert statuses(await four.step(stripped.wid())) == [POLICY_NOT_MET]
    # One node restarts, the others stay warm: all take the genuine one, none the refused verdict.
    await four.stop(3)
    four.start(3)
    assert four.submit(genuine, to=(2, 3)) == [[ACCEPTED]] * 2
    assert {tuple(node.pool.propose(9, 9_999)) for node in four.nodes} == {(genuine.wid(),)}
    assert statuses(await four.step()) == [types_pb2.RECEIPT_STATUS_OK]
    assert {node.ledger.locate(genuine.tx_id()) for node in four.nodes} == {(2, 0)}
    assert four.submit(stripped, genuine) == [[KNOWN, KNOWN]] * 4
    four.carry(stripped)
    assert statuses(await four.step(stripped.wid())) == [DUPLICATE]


async def test_warm_and_restarted_pools_agree_after_every_kind_of_refusal(four: FourNodes) -> None:
    address = four.identity("bank-a/client").address
    freeze = four.change("member_freeze", address, 1)
    late, used = four.call(2), four.call(3, sender="registry/client")
    four.submit(freeze, late, used)
    found = statuses(await four.step(freeze.wid(), late.wid(), used.wid()))
    assert found == [
        types_pb2.RECEIPT_STATUS_OK,
        types_pb2.RECEIPT_STATUS_MEMBER_FROZEN,
        EXECUTED,
    ]
    for index in (2, 3):
        await four.stop(index)
        four.start(index)
    verdicts = four.submit(freeze, late, used)
    assert verdicts == [[KNOWN, ACCEPTED, KNOWN]] * 4
    assert {tuple(node.pool.propose(9, 9_999)) for node in four.nodes} == {(late.wid(),)}


async def test_a_forged_copy_does_not_burn_the_id_at_a_restarted_node_either(
    four: FourNodes,
) -> None:
    genuine = four.call(1)
    four.carry(forged(genuine))
    assert statuses(await four.step(forged(genuine).wid())) == [BAD_ENDORSEMENT]
    for index in (2, 3):
        await four.stop(index)
        four.start(index)
    assert four.submit(genuine) == [[ACCEPTED]] * 4
    assert statuses(await four.step()) == [EXECUTED]


async def test_a_replayed_id_is_a_duplicate_at_warm_and_restarted_nodes(four: FourNodes) -> None:
    sent = four.call(1)
    four.submit(sent)
    assert statuses(await four.step()) == [EXECUTED]
    for index in (1, 2):
        await four.stop(index)
        four.start(index)
    assert four.submit(sent) == [[KNOWN]] * 4
    # A proposer that replays it all the same: the same receipt and root at every node.
    four.carry(sent)
    assert statuses(await four.step(sent.wid())) == [DUPLICATE]
    assert {node.ledger.locate(sent.tx_id()) for node in four.nodes} == {(1, 0)}


async def test_a_replayed_id_of_an_unexecuted_block_is_a_duplicate_after_a_restart(
    four: FourNodes,
) -> None:
    """The id is in the log but not in the store when the node dies."""
    sent = four.call(1)
    four.submit(sent)
    await four.stop(3)
    four.start(3)
    four.carry(sent, to=(3,))
    block = await four.build()
    assert await four.verdicts(block) == [""] * 4
    certificate = four.certificate(block)
    await four.commit(block, certificate, at=(0, 1, 2))
    log = four.nodes[3].ledger.log
    log.append_commit(1, block.hash(), certificate.to_proto().SerializeToString(deterministic=True))
    assert four.nodes[3].ledger.executed_height == 0
    await four.stop(3)
    four.start(3)
    assert four.nodes[3].ledger.executed_height == 1
    assert four.submit(sent) == [[KNOWN]] * 4
    four.carry(sent)
    assert statuses(await four.step(sent.wid())) == [DUPLICATE]
    assert [len(node.pool) for node in four.nodes] == [0] * len(EVERYONE)
