"""One validator sends whatever it likes, properly signed: the engine refuses it and goes on."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from chainnode.consensus.interface import (
    BlockValidated,
    ConsensusMessage,
    MessageReceived,
    SetTimer,
    Start,
    TimeoutFired,
    ValidateBlock,
    WorkAvailable,
)
from chainnode.consensus.tbft import TbftEngine
from chainnode.types.block import Block, evidence_root
from chainnode.types.codec import merkle_root
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.vote import (
    NIL,
    CommitCertificate,
    CommitSignature,
    Evidence,
    Proposal,
    Vote,
    VoteSummary,
    VoteType,
)
from tests.consensus.handmade import CONFIG, GENESIS_TIME_MS, Chain, verify_batch

CHAIN = Chain()
LIAR, ME = 1, 3
EDGES = (0, 1, 2, 3, 2**31 - 1, 2**31, 2**63, 2**64 - 1)


class Liar:
    """Draws messages of every kind with fields at their edges, signed with its own key."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def number(self) -> int:
        return self.random.choice((*EDGES, 1, 1, 1, 0, 0))

    def hash(self) -> bytes:
        honest = CHAIN.block(CHAIN.genesis, 0, "honest").hash()
        return self.random.choice((NIL, honest, self.random.randbytes(32), b"\x01"))

    def vote(self, height: int | None = None) -> Vote:
        who = LIAR if self.random.random() < 0.9 else 2
        vote = Vote(
            self.random.choice(list(VoteType)),
            self.number() if height is None else height,
            self.number(),
            self.hash(),
            self.number(),
            CHAIN.addresses[who],
            self.random.choice((0, 0, 0, 1, 2**64 - 1)),
        )
        return replace(vote, signature=CHAIN.signers[LIAR].sign(vote.sign_bytes("test")))

    def certificate(self) -> CommitCertificate:
        votes = sorted((self.vote(1) for _ in range(2)), key=lambda vote: vote.validator)
        signatures = [CommitSignature(v.validator, v.timestamp_ms, v.signature) for v in votes]
        return CommitCertificate(self.number(), self.number(), self.hash(), 0, tuple(signatures))

    def block(self) -> Block:
        block = CHAIN.block(CHAIN.genesis, LIAR, str(self.random.random()))
        evidence: tuple[Evidence, ...] = ()
        if self.random.random() < 0.3:
            evidence = (Evidence.of(self.vote(1), self.vote(1)),)
        wids = tuple(self.random.randbytes(32) for _ in range(self.random.randrange(3)))
        header = replace(
            block.header, evidence_hash=evidence_root(evidence), tx_root=merkle_root(wids)
        )
        header = replace(header, tx_count=len(wids))
        for name in ("timestamp_ms", "height", "exec_height", "engine_epoch", "tx_count"):
            if self.random.random() < 0.1:
                header = replace(header, **{name: self.number()})
        for name in ("previous_hash", "proposer", "validators_hash", "state_root"):
            if self.random.random() < 0.1:
                header = replace(header, **{name: self.random.randbytes(32)})
        certificate = block.last_commit
        if self.random.random() < 0.2:
            certificate = self.certificate()
            header = replace(header, last_commit_hash=certificate.hash())
        return Block(header, certificate, evidence, wids)

    def proposal(self) -> Proposal:
        proposal = Proposal(
            self.random.choice((1, 1, 1, self.number())),
            self.random.choice((1, 5, 9, self.number())),
            self.random.choice((-1, -1, 0, 1, 2**31 - 1)),
            self.block(),
            CHAIN.addresses[LIAR],
            self.random.choice((0, 0, 0, 7)),
        )
        return replace(proposal, signature=CHAIN.signers[LIAR].sign(proposal.sign_bytes("test")))

    def summary(self) -> VoteSummary:
        known = tuple(self.random.choices([*CHAIN.addresses, bytes(32)], k=3))
        return VoteSummary(self.number(), self.number(), self.random.random() < 0.5, known, known)

    def message(self) -> ConsensusMessage:
        """As it comes off the wire: shape checked, nothing else."""
        while True:
            try:
                drawn = self.random.choice((self.vote, self.proposal, self.summary))()
                return type(drawn).from_proto(drawn.to_proto())  # type: ignore[arg-type]
            except (ClientFault, ValueError):
                continue


@pytest.mark.parametrize("seed", range(8))
def test_no_message_of_one_validator_stops_an_engine(seed: int) -> None:
    liar = Liar(seed)
    engine = TbftEngine(CONFIG, CHAIN.genesis, CHAIN.signers[ME], verify_batch)
    now_ms = GENESIS_TIME_MS
    pending = [*engine.handle(Start(now_ms)), *engine.handle(WorkAvailable(now_ms))]
    faults = 0
    for _ in range(1_500):
        now_ms += liar.random.randrange(50)
        try:
            peer = CHAIN.addresses[LIAR]
            pending += engine.handle(MessageReceived(now_ms, peer, liar.message()))
        except PeerFault:
            faults += 1
        effect = pending.pop(liar.random.randrange(len(pending))) if pending else None
        if isinstance(effect, ValidateBlock):
            valid = liar.random.random() < 0.5
            pending += engine.handle(BlockValidated(now_ms, effect.block.hash(), valid))
        elif isinstance(effect, SetTimer):
            pending += engine.handle(TimeoutFired(now_ms, effect.timer))
        pending = pending[-50:]
    assert engine.height == 1, "one of four decides nothing"
    assert engine.round < 50
    assert faults > 100
