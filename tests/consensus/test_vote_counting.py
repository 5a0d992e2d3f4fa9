"""Tallies: quorums, equivocation, bounded memory; and the signer's guard."""

from dataclasses import replace

import pytest

from chainnode.consensus.buffer import FutureBuffer
from chainnode.consensus.interface import MessageReceived, Start
from chainnode.consensus.signer import SignerGuard
from chainnode.consensus.tbft import TbftEngine
from chainnode.consensus.votes import HeightVotes, VoteTally
from chainnode.types.errors import PeerFault
from chainnode.types.limits import (
    FUTURE_PROPOSALS_PER_PEER_MAX,
    FUTURE_ROUNDS_KEPT_MAX,
    FUTURE_VOTES_PER_PEER_MAX,
)
from chainnode.types.vote import NIL, Proposal, VoteType
from tests.consensus.handmade import CONFIG, Chain, verify_batch

HASH_A = b"\xaa" * 32
HASH_B = b"\xbb" * 32


def test_two_thirds_exactly_is_no_quorum() -> None:
    chain = Chain(3)
    tally = VoteTally(chain.validators)
    for who in (0, 1):
        tally.add(chain.vote(who, VoteType.PREVOTE, 0, HASH_A))
    assert tally.quorum_hash() is None
    tally.add(chain.vote(2, VoteType.PREVOTE, 0, HASH_A))
    assert tally.quorum_hash() == HASH_A


def test_nil_is_a_value_of_its_own() -> None:
    chain = Chain()
    tally = VoteTally(chain.validators)
    for who in (0, 1, 2):
        tally.add(chain.vote(who, VoteType.PREVOTE, 0, NIL))
    assert tally.quorum_hash() == NIL


def test_a_repeated_vote_counts_once() -> None:
    chain = Chain()
    tally = VoteTally(chain.validators)
    for time_ms in (1, 2, 3):
        tally.add(chain.vote(0, VoteType.PREVOTE, 0, HASH_A, time_ms=time_ms))
    assert tally.power == 1
    assert tally.quorum_hash() is None


def test_an_equivocator_is_named_once_per_conflict_and_counts_in_both() -> None:
    chain = Chain()
    tally = VoteTally(chain.validators)
    assert tally.add(chain.vote(0, VoteType.PREVOTE, 0, HASH_A)) is None
    evidence = tally.add(chain.vote(0, VoteType.PREVOTE, 0, HASH_B))
    assert evidence is not None
    evidence.validate()
    assert chain.validators.verify_evidence("test", evidence, verify_batch)
    for who in (1, 2):
        tally.add(chain.vote(who, VoteType.PREVOTE, 0, HASH_B))
    assert tally.quorum_hash() == HASH_B
    assert tally.power == 3


def test_one_key_cannot_fill_the_memory_with_future_rounds() -> None:
    chain = Chain()
    votes = HeightVotes(chain.validators)
    for round_number in range(1, 500):
        votes.add(chain.vote(0, VoteType.PREVOTE, round_number, HASH_A), 0)
    kept = {vote.round for vote in votes.from_round(0)}
    assert kept == {499 - back for back in range(FUTURE_ROUNDS_KEPT_MAX)}
    assert votes.reachable_round() == -1


def test_future_heights_are_bounded_per_peer() -> None:
    chain = Chain()
    buffer = FutureBuffer()
    block = chain.block(chain.genesis, 0, "A")
    proposal = chain.proposal(0, 0, block)
    for round_number in range(10 * FUTURE_VOTES_PER_PEER_MAX):
        buffer.keep(b"peer", chain.vote(0, VoteType.PREVOTE, round_number, NIL, height=2), 1)
        buffer.keep(b"peer", chain.vote(0, VoteType.PREVOTE, round_number, NIL, height=9), 1)
        buffer.keep(b"peer", proposal, 0)
    taken = buffer.take(2)
    assert len(taken) == FUTURE_VOTES_PER_PEER_MAX
    assert not any(isinstance(message, Proposal) for _, message in taken)
    assert buffer.take(2) == []
    assert FUTURE_PROPOSALS_PER_PEER_MAX == 1


def test_the_guard_signs_forward_only() -> None:
    chain = Chain()
    guard = SignerGuard(chain.signers[0], "test")
    first = guard.sign_vote(chain.vote(0, VoteType.PREVOTE, 1, HASH_A))
    assert first is not None
    assert guard.sign_vote(chain.vote(0, VoteType.PREVOTE, 1, HASH_A, time_ms=9)) == first
    assert guard.sign_vote(chain.vote(0, VoteType.PREVOTE, 1, HASH_B)) is None
    assert guard.sign_vote(chain.vote(0, VoteType.PREVOTE, 1, NIL)) is None
    assert guard.sign_vote(chain.vote(0, VoteType.PRECOMMIT, 0, HASH_A)) is None
    assert guard.sign_vote(chain.vote(0, VoteType.PRECOMMIT, 1, HASH_B)) is not None
    block = chain.block(chain.genesis, 0, "A")
    assert guard.sign_proposal(chain.proposal(0, 1, block)) is None
    assert guard.sign_proposal(chain.proposal(0, 2, block)) is not None
    assert guard.sign_proposal(chain.proposal(0, 2, block)) is None


def test_the_guard_remembers_what_a_log_says() -> None:
    chain = Chain()
    guard = SignerGuard(chain.signers[0], "test")
    guard.observe(chain.vote(0, VoteType.PRECOMMIT, 3, HASH_A))
    guard.observe(chain.vote(0, VoteType.PREVOTE, 1, HASH_A))
    assert guard.sign_vote(chain.vote(0, VoteType.PREVOTE, 2, HASH_B)) is None


def _refused(engine: TbftEngine, chain: Chain, message: Proposal) -> str:
    try:
        engine.handle(MessageReceived(1, chain.addresses[1], message))
    except PeerFault as fault:
        return fault.code
    return ""


def test_a_good_block_cannot_be_discredited_by_a_bad_wrapping() -> None:
    chain = Chain()
    engine = TbftEngine(CONFIG, chain.genesis, chain.signers[3], verify_batch)
    engine.handle(Start(1))
    block = chain.block(chain.genesis, 0, "A")
    stolen = chain.proposal(1, 1, block)
    assert _refused(engine, chain, stolen) == "WRONG_PROPOSER"
    assert _refused(engine, chain, chain.proposal(1, 0, block)) == "WRONG_PROPOSER"
    emptied = Proposal(1, 0, -1, type(block)(block.header, block.last_commit, (), ()), b"", 0)
    emptied = chain.proposal(0, 0, emptied.block)
    assert _refused(engine, chain, emptied) == "BAD_BLOCK"
    effects = engine.handle(MessageReceived(2, chain.addresses[0], chain.proposal(0, 0, block)))
    assert any("ValidateBlock" in repr(type(effect)) for effect in effects)


def test_forged_messages_are_refused() -> None:
    chain = Chain()
    engine = TbftEngine(CONFIG, chain.genesis, chain.signers[3], verify_batch)
    engine.handle(Start(1))
    vote = chain.vote(0, VoteType.PREVOTE, 0, HASH_A)
    forgeries = {
        "BAD_SIGNATURE": replace(vote, block_hash=HASH_B),
        "WRONG_EPOCH": replace(vote, engine_epoch=1),
    }
    for code, forged in forgeries.items():
        with pytest.raises(PeerFault) as raised:
            engine.handle(MessageReceived(1, chain.addresses[0], forged))
        assert raised.value.code == code
    assert not engine.active
