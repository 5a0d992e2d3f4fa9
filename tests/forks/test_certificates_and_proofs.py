"""Any valid certificate decides the same, and the last block of an idle chain can be proven."""

from __future__ import annotations

from chainnode._proto import types_pb2
from chainnode.ledger.proofs import receipt_proof
from chainnode.node.pacer import Pacer
from chainnode.types.proof import verify_receipt_proof
from chainnode.types.vote import CommitCertificate
from forks.four_nodes import EVERYONE, FourNodes

QUORUMS = ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3))


async def test_nodes_with_different_certificates_of_one_block_decide_the_same(
    four: FourNodes,
) -> None:
    sent = four.call(1)
    four.submit(sent)
    block = await four.build()
    assert await four.verdicts(block) == [""] * 4
    own = [four.certificate(block, quorum) for quorum in QUORUMS]
    assert len({certificate.hash() for certificate in own}) == 4
    results = [
        (await four.commit(block, certificate, at=(index,)))[0]
        for index, certificate in enumerate(own)
    ]
    assert len(set(results)) == 1

    # Each goes on from its own certificate, and also after a restart; all accept any proposer's.
    await four.stop(3)
    four.start(3)
    assert [node.tip.state().last_commit for node in four.nodes] == own
    for proposer in EVERYONE:
        following = await four.build(proposer)
        assert following.last_commit == own[proposer]
        assert await four.verdicts(following) == [""] * 4
    following = await four.build(2)
    await four.commit(following, four.certificate(following))
    assert len({node.tip.block_hash for node in four.nodes}) == 1
    # A client believes the receipt with whichever certificate its node happens to hold.
    assert four.nodes[0].tip.results_pending
    await four.step(proposer=1)
    proofs = [receipt_proof(node.ledger, sent.tx_id()) for node in four.nodes]
    for proof in proofs:
        verify_receipt_proof(proof, four.layout.chain_id, four.nodes[0].tip.validators)


async def test_the_last_block_of_an_idle_chain_is_provable(four: FourNodes) -> None:
    """The pacer's own rule decides how many empty blocks follow."""
    sent = four.call(1)
    four.submit(sent)
    receipt = (await four.step())[0]
    empty = 0
    while all(Pacer(node.chain, node.genesis.config, _nothing)._has_work() for node in four.nodes):
        assert not await four.step(proposer=empty % 4)
        empty += 1
    depth = four.nodes[0].genesis.config.execution_depth
    assert empty == depth
    for index, node in enumerate(four.nodes):
        assert not node.tip.results_pending
        proof = receipt_proof(node.ledger, sent.tx_id())
        found = verify_receipt_proof(proof, four.layout.chain_id, node.tip.validators)
        assert found.encode() == receipt.SerializeToString(deterministic=True), index
    # A restarted node agrees that the chain is silent, and proves the same.
    await four.stop(0)
    four.start(0)
    assert not four.nodes[0].tip.results_pending
    again = receipt_proof(four.nodes[0].ledger, sent.tx_id())
    certificate = CommitCertificate.from_proto(again.certificate)
    assert certificate.block_hash == four.nodes[1].tip.block_hash
    assert types_pb2.Receipt.FromString(again.receipt) == receipt


def _nothing() -> None:
    """No consensus runs."""
