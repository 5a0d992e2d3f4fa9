"""Votes, certificates, evidence and proposals, with the exact bytes that are signed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from chainnode._proto import peer_pb2, types_pb2
from chainnode.types.codec import (
    HASH_SIZE_BYTES,
    SIGNATURE_SIZE_BYTES,
    check_size,
    encode,
    length_prefixed,
    malformed,
    tagged_hash,
)
from chainnode.types.limits import VALIDATORS_MAX

if TYPE_CHECKING:
    from chainnode.types.block import Block

ROUND_MAX: Final = 2**31 - 1
NIL: Final = b""
"""The block hash of a vote for no block."""


class VoteType(IntEnum):
    """The two voting steps of a round."""

    PREVOTE = 1
    PRECOMMIT = 2


@dataclass(frozen=True, slots=True)
class Vote:
    """One validator's word in one step of one round; an empty `block_hash` is a vote for nil."""

    type: VoteType
    height: int
    round: int
    block_hash: bytes
    timestamp_ms: int
    validator: bytes
    engine_epoch: int
    signature: bytes = b""

    def sign_bytes(self, chain_id: str) -> bytes:
        """The bytes the validator signs: domain, chain id, canonical vote without signature."""
        unsigned = replace(self, signature=b"")
        return b"chainnode/vote/v1" + length_prefixed(chain_id) + encode(unsigned.to_proto())

    def to_proto(self) -> types_pb2.Vote:
        """The wire form."""
        return types_pb2.Vote(
            type=types_pb2.VoteType.ValueType(int(self.type)),
            height=self.height,
            round=self.round,
            block_hash=self.block_hash,
            timestamp_ms=self.timestamp_ms,
            validator=self.validator,
            engine_epoch=self.engine_epoch,
            signature=self.signature,
        )

    @classmethod
    def from_proto(cls, message: types_pb2.Vote) -> Vote:
        """Read and check the shape of a vote.

        Raises:
            ClientFault: `MALFORMED`.
        """
        if message.type not in (1, 2):
            raise malformed("Vote.type", f"is {message.type}, wants 1 or 2")
        vote = cls(
            VoteType(message.type),
            message.height,
            message.round,
            message.block_hash,
            message.timestamp_ms,
            message.validator,
            message.engine_epoch,
            message.signature,
        )
        vote.validate()
        return vote

    def validate(self) -> None:
        """Check lengths and ranges; the signature itself is checked against a validator set.

        Raises:
            ClientFault: `MALFORMED`.
        """
        _check_height_round("Vote", self.height, self.round)
        check_size("Vote.block_hash", self.block_hash, 0, HASH_SIZE_BYTES)
        check_size("Vote.validator", self.validator, HASH_SIZE_BYTES)
        check_size("Vote.signature", self.signature, SIGNATURE_SIZE_BYTES)


@dataclass(frozen=True, slots=True)
class CommitSignature:
    """One precommit inside a certificate, without the fields all of them share."""

    validator: bytes
    timestamp_ms: int
    signature: bytes

    def to_proto(self) -> types_pb2.CommitSignature:
        """The wire form."""
        return types_pb2.CommitSignature(
            validator=self.validator, timestamp_ms=self.timestamp_ms, signature=self.signature
        )

    @classmethod
    def from_proto(cls, message: types_pb2.CommitSignature) -> CommitSignature:
        """Read and check the shape.

        Raises:
            ClientFault: `MALFORMED`.
        """
        check_size("CommitSignature.validator", message.validator, HASH_SIZE_BYTES)
        check_size("CommitSignature.signature", message.signature, SIGNATURE_SIZE_BYTES)
        return cls(message.validator, message.timestamp_ms, message.signature)


@dataclass(frozen=True, slots=True)
class CommitCertificate:
    """Precommits of more than two thirds of the power for one block in one round.

    The certificate below block 1 is `CommitCertificate.empty()`: height 0, no signatures.
    """

    height: int
    round: int
    block_hash: bytes
    engine_epoch: int
    signatures: tuple[CommitSignature, ...]

    @classmethod
    def empty(cls) -> CommitCertificate:
        """The certificate under block 1."""
        return cls(0, 0, b"", 0, ())

    def votes(self) -> list[Vote]:
        """The precommits, rebuilt as they were signed."""
        return [
            Vote(
                VoteType.PRECOMMIT,
                self.height,
                self.round,
                self.block_hash,
                signature.timestamp_ms,
                signature.validator,
                self.engine_epoch,
                signature.signature,
            )
            for signature in self.signatures
        ]

    def hash(self) -> bytes:
        """The header's `last_commit_hash`: SHA-256("chainnode/commit/v1" || canonical bytes)."""
        return tagged_hash(b"chainnode/commit/v1", encode(self.to_proto()))

    def to_proto(self) -> types_pb2.CommitCertificate:
        """The wire form."""
        return types_pb2.CommitCertificate(
            height=self.height,
            round=self.round,
            block_hash=self.block_hash,
            engine_epoch=self.engine_epoch,
            signatures=[signature.to_proto() for signature in self.signatures],
        )

    @classmethod
    def from_proto(cls, message: types_pb2.CommitCertificate) -> CommitCertificate:
        """Read and check the shape of a certificate.

        Raises:
            ClientFault: `MALFORMED`.
        """
        certificate = cls(
            message.height,
            message.round,
            message.block_hash,
            message.engine_epoch,
            tuple(CommitSignature.from_proto(item) for item in message.signatures),
        )
        certificate.validate()
        return certificate

    def validate(self) -> None:
        """Check lengths, count and order; power and signatures need the validator set.

        Raises:
            ClientFault: `MALFORMED`.
        """
        if self == CommitCertificate.empty():
            return
        _check_height_round("CommitCertificate", self.height, self.round)
        check_size("CommitCertificate.block_hash", self.block_hash, HASH_SIZE_BYTES)
        if len(self.signatures) > VALIDATORS_MAX:
            raise malformed("CommitCertificate.signatures", f"more than {VALIDATORS_MAX}")
        validators = [signature.validator for signature in self.signatures]
        if any(left >= right for left, right in pairwise(validators)):
            raise malformed("CommitCertificate.signatures", "are not sorted by validator")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two conflicting votes of one validator, smaller block hash first."""

    first: Vote
    second: Vote

    @classmethod
    def of(cls, one: Vote, other: Vote) -> Evidence:
        """Order two conflicting votes the one canonical way."""
        return cls(one, other) if one.block_hash < other.block_hash else cls(other, one)

    def to_proto(self) -> types_pb2.Evidence:
        """The wire form."""
        return types_pb2.Evidence(first=self.first.to_proto(), second=self.second.to_proto())

    @classmethod
    def from_proto(cls, message: types_pb2.Evidence) -> Evidence:
        """Read and check the shape of evidence.

        Raises:
            ClientFault: `MALFORMED`.
        """
        evidence = cls(Vote.from_proto(message.first), Vote.from_proto(message.second))
        evidence.validate()
        return evidence

    def key(self) -> tuple[bytes, int, int, int, int]:
        """What the crime is: one entry is enough per validator, epoch, height, round and step."""
        vote = self.first
        return (vote.validator, vote.engine_epoch, vote.height, vote.round, int(vote.type))

    def validate(self) -> None:
        """Check that the two votes conflict; their signatures need the validator set.

        Raises:
            ClientFault: `MALFORMED`.
        """
        one, other = self.first, self.second
        same = (one.type, one.height, one.round, one.validator, one.engine_epoch) == (
            other.type,
            other.height,
            other.round,
            other.validator,
            other.engine_epoch,
        )
        if not same or one.block_hash >= other.block_hash:
            raise malformed("Evidence", "the two votes do not conflict in canonical order")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposer's block for one round; `valid_round` is -1 or the round of its 2f+1 prevotes."""

    height: int
    round: int
    valid_round: int
    block: Block
    proposer: bytes
    engine_epoch: int
    signature: bytes = b""

    def sign_bytes(self, chain_id: str) -> bytes:
        """The bytes the proposer signs: field 4 carries the 32-byte block hash, not the block."""
        before = types_pb2.Proposal(
            height=self.height, round=self.round, valid_round=self.valid_round
        )
        after = types_pb2.Proposal(proposer=self.proposer, engine_epoch=self.engine_epoch)
        block_hash = self.block.hash()
        field = b"\x22" + bytes([len(block_hash)]) + block_hash
        body = encode(before) + field + encode(after)
        return b"chainnode/proposal/v1" + length_prefixed(chain_id) + body

    def to_proto(self) -> types_pb2.Proposal:
        """The wire form."""
        return types_pb2.Proposal(
            height=self.height,
            round=self.round,
            valid_round=self.valid_round,
            block=self.block.to_proto(),
            proposer=self.proposer,
            engine_epoch=self.engine_epoch,
            signature=self.signature,
        )

    @classmethod
    def from_proto(cls, message: types_pb2.Proposal) -> Proposal:
        """Read and check the shape of a proposal and its block.

        Raises:
            ClientFault: `MALFORMED`.
        """
        from chainnode.types.block import Block

        proposal = cls(
            message.height,
            message.round,
            message.valid_round,
            Block.from_proto(message.block),
            message.proposer,
            message.engine_epoch,
            message.signature,
        )
        proposal.validate()
        return proposal

    def validate(self) -> None:
        """Check lengths, ranges and that the block is of this height.

        Raises:
            ClientFault: `MALFORMED`.
        """
        _check_height_round("Proposal", self.height, self.round)
        if not -1 <= self.valid_round < self.round:
            raise malformed("Proposal.valid_round", "is not below the round")
        if self.block.header.height != self.height:
            raise malformed("Proposal.block", "is of another height")
        check_size("Proposal.proposer", self.proposer, HASH_SIZE_BYTES)
        check_size("Proposal.signature", self.signature, SIGNATURE_SIZE_BYTES)


@dataclass(frozen=True, slots=True)
class VoteSummary:
    """The votes a node holds of one round; a peer answers with those that are missing."""

    height: int
    round: int
    has_proposal: bool
    prevotes: tuple[bytes, ...]
    precommits: tuple[bytes, ...]

    def to_proto(self) -> peer_pb2.VoteSummary:
        """The wire form."""
        return peer_pb2.VoteSummary(
            height=self.height,
            round=self.round,
            has_proposal=self.has_proposal,
            prevotes=self.prevotes,
            precommits=self.precommits,
        )

    @classmethod
    def from_proto(cls, message: peer_pb2.VoteSummary) -> VoteSummary:
        """Read and check the shape of a summary.

        Raises:
            ClientFault: `MALFORMED`.
        """
        _check_height_round("VoteSummary", message.height, message.round)
        for validators in (message.prevotes, message.precommits):
            if len(validators) > VALIDATORS_MAX:
                raise malformed("VoteSummary", f"names more than {VALIDATORS_MAX} validators")
            for validator in validators:
                check_size("VoteSummary.validators", validator, HASH_SIZE_BYTES)
        return cls(
            message.height,
            message.round,
            message.has_proposal,
            tuple(message.prevotes),
            tuple(message.precommits),
        )


def _check_height_round(subject: str, height: int, round_number: int) -> None:
    if height < 1:
        raise malformed(f"{subject}.height", "is 0")
    if not 0 <= round_number <= ROUND_MAX:
        raise malformed(f"{subject}.round", f"is above {ROUND_MAX}")
