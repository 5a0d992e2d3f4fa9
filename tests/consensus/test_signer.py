"""A validator that lost its log signs nothing again at a height it may have signed at."""

from __future__ import annotations

from chainnode.consensus.interface import (
    Broadcast,
    Effect,
    MessageReceived,
    Persist,
    Start,
    TimeoutFired,
    Timer,
    TimerKind,
)
from chainnode.consensus.signer import Place, Signed, SignerGuard
from chainnode.consensus.tbft import TbftEngine
from chainnode.consensus.wal import (
    CHAIN_START,
    RecordType,
    WalRecord,
    decode_records,
    encode_records,
    prune_records,
)
from chainnode.types.vote import NIL, Proposal, Vote, VoteType
from tests.consensus.handmade import CONFIG, Chain, verify_batch

CHAIN = Chain()
ME = 3


def vote(height: int, round_number: int, kind: VoteType, block_hash: bytes = NIL) -> Vote:
    return Vote(kind, height, round_number, block_hash, 1_000, CHAIN.addresses[ME], 0)


def guard(remembered: Place | None) -> SignerGuard:
    return SignerGuard(CHAIN.signers[ME], "test", remembered)


def test_an_emptied_log_abstains_for_the_rest_of_the_height() -> None:
    emptied = guard((0, 5, 1, 2))
    for height, round_number in ((4, 9), (5, 0), (5, 1), (5, 2), (5, 1_000)):
        for kind in VoteType:
            assert emptied.sign_vote(vote(height, round_number, kind)) is None
    signed = emptied.sign_vote(vote(6, 0, VoteType.PREVOTE))
    assert signed is not None
    assert emptied.sign_vote(vote(6, 0, VoteType.PREVOTE, b"\x01" * 32)) is None


def test_a_whole_log_goes_on_where_it_was() -> None:
    whole = guard((0, 5, 1, 2))
    whole.observe(vote(5, 1, VoteType.PREVOTE))
    assert whole.sign_vote(vote(5, 1, VoteType.PREVOTE, b"\x01" * 32)) is None
    assert whole.sign_vote(vote(5, 1, VoteType.PRECOMMIT)) is not None


def test_a_log_from_an_older_backup_counts_as_lost() -> None:
    restored = guard((0, 5, 1, 3))
    restored.observe(vote(5, 0, VoteType.PREVOTE))
    assert restored.sign_vote(vote(5, 2, VoteType.PREVOTE)) is None
    assert restored.sign_vote(vote(6, 0, VoteType.PREVOTE)) is not None


def signatures(effects: list[Effect]) -> list[Vote | Proposal]:
    messages = [effect.message for effect in effects if isinstance(effect, Broadcast)]
    return [message for message in messages if isinstance(message, Vote | Proposal)]


def run(remembered: Place | None) -> tuple[list[Effect], TbftEngine]:
    engine = TbftEngine(CONFIG, CHAIN.genesis, CHAIN.signers[ME], verify_batch, remembered)
    engine.handle(Start(0))
    proposal = CHAIN.proposal(0, 0, CHAIN.block(CHAIN.genesis, 0, "A"))
    engine.handle(MessageReceived(1, CHAIN.addresses[0], proposal))
    timer = Timer(TimerKind.PROPOSE, 1, 0)
    return list(engine.handle(TimeoutFired(2_000_000, timer))), engine


def test_an_engine_says_what_it_signed_and_an_emptied_one_says_nothing() -> None:
    effects, _ = run(None)
    (prevote,) = signatures(effects)
    assert isinstance(effects[0], Persist)
    assert effects[0].signed == Signed.of(prevote, "test")
    assert effects[0].signed.place == (0, 1, 0, 2)
    emptied, engine = run(effects[0].signed.place)
    assert signatures(emptied) == []
    assert not any(isinstance(effect, Persist) for effect in emptied)
    # It still follows the others' votes.
    assert engine.height == 1


def test_pruning_keeps_every_record_of_the_height_and_above() -> None:
    records = [
        WalRecord(height, kind, bytes([height, kind]) * 10)
        for height in (3, 4, 5, 4, 5)
        for kind in RecordType
    ]
    data, last_hash = b"", CHAIN_START
    for record in records:
        frames, last_hash = encode_records([record], last_hash)
        data += frames
    for height in (3, 4, 5, 6):
        kept, end = prune_records(data, height)
        decoded = decode_records(kept)
        assert list(decoded.records) == [item for item in records if item.height >= height]
        assert (decoded.valid_size_bytes, decoded.last_hash) == (len(kept), end)
        # The next append follows on.
        more, _ = encode_records([records[0]], end)
        assert decode_records(kept + more).records[-1] == records[0]
