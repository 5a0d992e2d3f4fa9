"""Certificates: quorum arithmetic, forgeries, and that any valid one serves."""

from dataclasses import replace
from typing import Any

import pytest

from chainnode.consensus.interface import BlockValidated, MessageReceived, Start
from chainnode.consensus.rules import block_time_ms, check_block
from chainnode.consensus.tbft import TbftEngine
from chainnode.types.block import evidence_root
from chainnode.types.errors import ChainnodeError, PeerFault
from chainnode.types.vote import CommitCertificate, Evidence, VoteType
from tests.consensus.handmade import CONFIG, Chain, verify_batch


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_two_certificates_of_one_block_decide_the_same(chain: Chain) -> None:
    block = chain.block(chain.genesis, 0, "A")
    ours = chain.certificate(block, (0, 1, 2))
    theirs = chain.certificate(block, (1, 2, 3), round_number=1, time_ms=1_500_000)
    assert ours != theirs
    for certificate in (ours, theirs):
        chain.validators.verify_certificate("test", certificate, verify_batch)
    # A node that holds one accepts the next block with the other inside.
    state = chain.genesis.advance(block, ours)
    following = chain.block(state, 1, "B", last_commit=theirs)
    assert check_block(CONFIG, state, following, verify_batch) == ""
    assert following.header.timestamp_ms == 1_500_002
    assert state.previous_hash == chain.genesis.advance(block, theirs).previous_hash


def test_an_engine_votes_for_a_block_with_another_certificate(chain: Chain) -> None:
    block = chain.block(chain.genesis, 0, "A")
    state = chain.genesis.advance(block, chain.certificate(block, (0, 1, 2)))
    engine = TbftEngine(CONFIG, state, chain.signers[3], verify_batch)
    engine.handle(Start(1))
    following = chain.block(state, 1, "B", last_commit=chain.certificate(block, (1, 2, 3)))
    peer = chain.addresses[1]
    engine.handle(MessageReceived(2, peer, chain.proposal(1, 0, following)))
    effects = engine.handle(BlockValidated(3, following.hash(), True))
    votes = [effect for effect in effects if "PREVOTE" in repr(effect)]
    assert repr(following.hash()) in repr(votes)


@pytest.mark.parametrize(
    ("voters", "accepted"), [((0, 1), False), ((0, 1, 2), True), ((0, 1, 2, 3), True)]
)
def test_quorum(chain: Chain, voters: tuple[int, ...], accepted: bool) -> None:
    block = chain.block(chain.genesis, 0, "A")
    certificate = chain.certificate(block, voters)
    if accepted:
        chain.validators.verify_certificate("test", certificate, verify_batch)
    else:
        with pytest.raises(PeerFault, match="no quorum"):
            chain.validators.verify_certificate("test", certificate, verify_batch)


def _forgeries(chain: Chain) -> dict[str, CommitCertificate]:
    good = chain.certificate(chain.block(chain.genesis, 0, "A"), (0, 1, 2))
    first = good.signatures[0]
    return {
        "another block": replace(good, block_hash=bytes(32)),
        "another height": replace(good, height=2),
        "another round": replace(good, round=1),
        "another epoch": replace(good, engine_epoch=1),
        "one voter twice": replace(good, signatures=(first, *good.signatures[:2])),
        "not sorted": replace(good, signatures=good.signatures[::-1]),
        "a stranger": replace(
            good, signatures=(*good.signatures, replace(first, validator=b"\xff" * 32))
        ),
        "another time": replace(
            good, signatures=(replace(first, timestamp_ms=1), *good.signatures[1:])
        ),
        "empty": CommitCertificate.empty(),
    }


@pytest.mark.parametrize("name", sorted(_forgeries(Chain())))
def test_forged_certificates_are_refused(chain: Chain, name: str) -> None:
    with pytest.raises(ChainnodeError) as raised:
        chain.validators.verify_certificate("test", _forgeries(chain)[name], verify_batch)
    assert raised.value.code in {"CERTIFICATE_INVALID", "MALFORMED"}


def test_a_certificate_of_another_chain_is_refused(chain: Chain) -> None:
    certificate = chain.certificate(chain.block(chain.genesis, 0, "A"), (0, 1, 2))
    with pytest.raises(PeerFault, match="signature"):
        chain.validators.verify_certificate("other", certificate, verify_batch)


def test_block_time_is_the_median_whatever_one_liar_says(chain: Chain) -> None:
    block = chain.block(chain.genesis, 0, "A")
    honest = chain.certificate(block, (0, 1, 2, 3), time_ms=1_200_000)
    for lie in (0, 2**63):
        signatures = tuple(
            replace(signature, timestamp_ms=lie) if index == 2 else signature
            for index, signature in enumerate(honest.signatures)
        )
        lied = replace(honest, signatures=signatures)
        assert 1_200_000 <= chain.validators.median_time_ms(lied) <= 1_200_003


def test_block_time_always_grows(chain: Chain) -> None:
    block = chain.block(chain.genesis, 0, "A")
    early = chain.certificate(block, (0, 1, 2), time_ms=5)
    assert block_time_ms(chain.genesis.advance(block, early)) == block.header.timestamp_ms + 1


def test_rules_name_the_wrong_field(chain: Chain) -> None:
    good = chain.block(chain.genesis, 0, "A")
    assert check_block(CONFIG, chain.genesis, good, verify_batch) == ""
    wrong: dict[str, Any] = {
        "chain_id": "other",
        "previous_hash": b"\x01" * 32,
        "engine": "raft",
        "engine_epoch": 1,
        "validators_hash": b"\x01" * 32,
        "next_validators_hash": b"\x01" * 32,
        "timestamp_ms": 7,
        "proposer": b"\x01" * 32,
    }
    for name, value in wrong.items():
        bad = replace(good, header=replace(good.header, **{name: value}))
        reason = check_block(CONFIG, chain.genesis, bad, verify_batch)
        assert name.split("_")[0] in reason, name


def test_evidence_in_a_block_must_be_signed_recent_and_single(chain: Chain) -> None:
    one = chain.vote(1, VoteType.PREVOTE, 0, b"\x01" * 32)
    other = chain.vote(1, VoteType.PREVOTE, 0, b"\x02" * 32)
    evidence = Evidence.of(one, other)

    def reason(*items: Evidence) -> str:
        block = chain.block(chain.genesis, 0, "A", evidence=items)
        assert block.header.evidence_hash == evidence_root(items)
        return check_block(CONFIG, chain.genesis, block, verify_batch)

    assert reason(evidence) == ""
    assert "repeats" in reason(evidence, evidence)
    assert "signatures" in reason(replace(evidence, first=replace(one, timestamp_ms=1)))
    far = [chain.vote(1, VoteType.PREVOTE, 0, bytes([n]) * 32, height=9) for n in (1, 2)]
    assert "old" in reason(Evidence.of(*far))
