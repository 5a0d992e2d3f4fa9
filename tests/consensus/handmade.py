"""A chain of hand-made keys, blocks and votes; validator N proposes round N of height 1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from chainnode.consensus.interface import (
    ConsensusConfig,
    HeightState,
)
from chainnode.consensus.rules import block_time_ms
from chainnode.testing.node import SimSigner
from chainnode.types.block import Architecture, Block, BlockHeader, evidence_root
from chainnode.types.codec import address_of, merkle_root, tagged_hash
from chainnode.types.validators import Validator, ValidatorSet
from chainnode.types.vote import (
    CommitCertificate,
    CommitSignature,
    Evidence,
    Proposal,
    Vote,
    VoteType,
)

CONFIG = ConsensusConfig(chain_id="test")
GENESIS_TIME_MS = 1_000_000


def verify_batch(
    keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    return [
        hashlib.sha512(key + message).digest() == signature
        for key, message, signature in zip(keys, messages, signatures, strict=True)
    ]


class Chain:
    """Keys, validator set and hand-made messages."""

    def __init__(self, count: int = 4) -> None:
        signers = [SimSigner(index) for index in range(count)]
        self.validators = ValidatorSet(
            Validator(signer.public_key, f"org-{index}", 1) for index, signer in enumerate(signers)
        )
        by_address = {address_of(signer.public_key): signer for signer in signers}
        self.addresses = [self.validators.proposer(1, turn) for turn in range(count)]
        self.signers = [by_address[address] for address in self.addresses]
        self.genesis = HeightState(
            1,
            bytes(32),
            GENESIS_TIME_MS,
            CommitCertificate.empty(),
            self.validators,
            self.validators,
            self.validators,
        )

    def block(
        self,
        state: HeightState,
        proposer: int,
        label: str,
        evidence: tuple[Evidence, ...] = (),
        last_commit: CommitCertificate | None = None,
    ) -> Block:
        certificate = last_commit or state.last_commit
        wids = (tagged_hash(b"label", label.encode()),)
        header = BlockHeader(
            version=1,
            chain_id="test",
            height=state.height,
            previous_hash=state.previous_hash,
            timestamp_ms=block_time_ms(replace(state, last_commit=certificate)),
            tx_root=merkle_root(wids),
            tx_count=1,
            engine="tbft",
            engine_epoch=0,
            validators_hash=state.validators.hash(),
            next_validators_hash=state.next_validators.hash(),
            architecture=Architecture("ox-serial", 1, bytes(32), 10, 100),
            proposer=self.addresses[proposer],
            last_commit_hash=certificate.hash(),
            evidence_hash=evidence_root(evidence),
            exec_height=state.height - 1,
            state_root=bytes(32),
            receipts_root=bytes(32),
            results_accumulator=bytes(32),
        )
        return Block(header, certificate, evidence, wids)

    def proposal(
        self, who: int, round_number: int, block: Block, valid_round: int = -1
    ) -> Proposal:
        proposal = Proposal(
            block.height, round_number, valid_round, block, self.addresses[who], 0, bytes(64)
        )
        signature = self.signers[who].sign(proposal.sign_bytes("test"))
        return replace(proposal, signature=signature)

    def vote(
        self,
        who: int,
        kind: VoteType,
        round_number: int,
        block_hash: bytes,
        *,
        height: int = 1,
        time_ms: int = GENESIS_TIME_MS + 100,
    ) -> Vote:
        vote = Vote(kind, height, round_number, block_hash, time_ms, self.addresses[who], 0)
        return replace(vote, signature=self.signers[who].sign(vote.sign_bytes("test")))

    def certificate(
        self, block: Block, voters: Sequence[int], round_number: int = 0, time_ms: int = 0
    ) -> CommitCertificate:
        votes = [
            self.vote(
                who,
                VoteType.PRECOMMIT,
                round_number,
                block.hash(),
                height=block.height,
                time_ms=(time_ms or GENESIS_TIME_MS + 100) + who,
            )
            for who in voters
        ]
        signatures = sorted(
            (CommitSignature(v.validator, v.timestamp_ms, v.signature) for v in votes),
            key=lambda signature: signature.validator,
        )
        return CommitCertificate(block.height, round_number, block.hash(), 0, tuple(signatures))
