"""Consensus values: canonical bytes, exact sign bytes, shape checks, roots."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from chainnode._proto import types_pb2
from chainnode.types.block import Block
from chainnode.types.codec import decode, encode, merkle_root
from chainnode.types.errors import ClientFault
from chainnode.types.validators import Validator, ValidatorSet
from chainnode.types.vote import CommitCertificate, Evidence, Proposal, Vote, VoteType
from tests.consensus.handmade import Chain


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_values_survive_the_wire(chain: Chain) -> None:
    first = chain.block(chain.genesis, 0, "A")
    certificate = chain.certificate(first, (0, 1, 2))
    conflict = [chain.vote(1, VoteType.PREVOTE, 0, bytes([n]) * 32) for n in (1, 2)]
    state = chain.genesis.advance(first, certificate)
    block = chain.block(state, 1, "B", evidence=(Evidence.of(*conflict),))
    proposal = chain.proposal(1, 0, block)
    assert Block.decode(block.encode()) == block
    assert Proposal.from_proto(proposal.to_proto()) == proposal
    assert Vote.from_proto(conflict[0].to_proto()) == conflict[0]
    assert CommitCertificate.from_proto(certificate.to_proto()) == certificate
    assert certificate.votes()[0].sign_bytes("test").startswith(b"chainnode/vote/v1\0\0\0\4test")


def test_sign_bytes_are_as_the_format_says(chain: Chain) -> None:
    vote = chain.vote(0, VoteType.PRECOMMIT, 3, b"\x07" * 32)
    unsigned = vote.to_proto()
    unsigned.ClearField("signature")
    assert vote.sign_bytes("c") == b"chainnode/vote/v1\0\0\0\1c" + encode(unsigned)
    block = chain.block(chain.genesis, 0, "A")
    proposal = chain.proposal(0, 1, block, valid_round=0)
    body = b"\x08\x01\x10\x01\x22\x20" + block.hash() + b"\x2a\x20" + proposal.proposer
    assert proposal.sign_bytes("c") == b"chainnode/proposal/v1\0\0\0\1c" + body
    header = encode(block.header.to_proto())
    assert block.hash() == hashlib.sha256(b"chainnode/block/v1" + header).digest()


def test_only_canonical_bytes_decode(chain: Chain) -> None:
    data = encode(chain.vote(0, VoteType.PREVOTE, 0, b"").to_proto())
    assert encode(decode(types_pb2.Vote, data)) == data
    bad = {
        "unknown field": data + b"\xf8\x07\x01",
        "explicit default": data + b"\x18\x00",
        "repeated scalar": b"\x08\x01" + data,
        "overlong varint": b"\x08\x81\x00" + data[2:],
        "cut": data[:-1],
        "junk": b"\xff\xff\xff",
    }
    for name, bytes_ in bad.items():
        with pytest.raises(ClientFault) as raised:
            decode(types_pb2.Vote, bytes_)
        assert raised.value.code == "MALFORMED", name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", 0),
        ("type", 9),
        ("height", 0),
        ("round", 2**32 - 1),
        ("block_hash", b"x"),
        ("validator", b""),
        ("signature", b"x" * 63),
    ],
)
def test_votes_of_the_wrong_shape_are_refused(chain: Chain, field: str, value: object) -> None:
    message = chain.vote(0, VoteType.PREVOTE, 0, b"").to_proto()
    setattr(message, field, value)
    with pytest.raises(ClientFault, match="MALFORMED"):
        Vote.from_proto(message)


def test_every_missing_part_of_a_proposal_is_refused(chain: Chain) -> None:
    message = chain.proposal(0, 1, chain.block(chain.genesis, 0, "A")).to_proto()
    for field in ("height", "block", "proposer", "signature"):
        damaged = types_pb2.Proposal()
        damaged.CopyFrom(message)
        _clear(damaged, field)
        with pytest.raises(ClientFault):
            Proposal.from_proto(damaged)
    for field in message.block.header.DESCRIPTOR.fields_by_name:
        damaged.CopyFrom(message)
        _clear(damaged.block.header, field)
        optional = {"chain_id", "engine", "engine_epoch", "timestamp_ms", "architecture"}
        if field in optional | {"exec_height"}:
            continue
        with pytest.raises(ClientFault):
            Proposal.from_proto(damaged)


def _clear(message: Any, field: str) -> None:
    message.ClearField(field)


def test_a_block_must_match_its_header(chain: Chain) -> None:
    block = chain.block(chain.genesis, 0, "A")
    block.validate()
    other = chain.certificate(block, (0, 1, 2))
    conflict = [chain.vote(1, VoteType.PREVOTE, 0, bytes([n]) * 32) for n in (1, 2)]
    for damaged in (
        replace(block, wids=()),
        replace(block, wids=(b"\x01" * 32,)),
        replace(block, wids=block.wids * 2),
        replace(block, last_commit=other),
        replace(block, evidence=(Evidence.of(*conflict),)),
    ):
        with pytest.raises(ClientFault):
            damaged.validate()


def test_evidence_needs_a_conflict(chain: Chain) -> None:
    one, other = (chain.vote(1, VoteType.PREVOTE, 0, bytes([n]) * 32) for n in (1, 2))
    Evidence.of(other, one).validate()
    assert Evidence.of(other, one) == Evidence.of(one, other)
    for first, second in (
        (one, one),
        (other, one),
        (one, replace(other, round=1)),
        (one, replace(other, validator=bytes(32))),
        (one, replace(other, type=VoteType.PRECOMMIT)),
    ):
        with pytest.raises(ClientFault):
            Evidence(first, second).validate()


def test_merkle_shape_is_the_one_of_rfc_6962() -> None:
    def reference(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return hashlib.sha256(b"\x00" + leaves[0]).digest()
        split = 1 << (len(leaves) - 1).bit_length() - 1
        left, right = reference(leaves[:split]), reference(leaves[split:])
        return hashlib.sha256(b"\x01" + left + right).digest()

    assert merkle_root([]) == hashlib.sha256(b"").digest()
    for count in range(1, 40):
        leaves = [bytes([index]) for index in range(count)]
        assert merkle_root(leaves) == reference(leaves)


def test_rotation_follows_power() -> None:
    weighted = ValidatorSet(
        Validator(bytes([index]) * 32, "org", power) for index, power in enumerate((10, 20, 30))
    )
    turns = [weighted.proposer(height, 0) for height in range(600)]
    for validator in weighted:
        assert turns.count(validator.address) == 10 * validator.power
    assert weighted.proposer(7, 3) == weighted.proposer(10, 0)


def test_quorum_and_correct_thresholds() -> None:
    for count in range(1, 20):
        validators = ValidatorSet(
            Validator(bytes([index]) * 32, "org", 1) for index in range(count)
        )
        faulty = (count - 1) // 3
        quorum = next(power for power in range(count + 1) if validators.is_quorum(power))
        assert 2 * quorum - count > faulty
        assert count - faulty >= quorum
        assert validators.has_correct(faulty + 1)
        assert not validators.has_correct(faulty)


def test_a_set_is_sorted_and_hashed_whatever_the_order() -> None:
    members = [Validator(bytes([index]) * 32, "org", 1) for index in range(5)]
    one, other = ValidatorSet(members), ValidatorSet(reversed(members))
    assert one == other
    assert one.hash() == other.hash()
    assert list(one.addresses) == sorted(one.addresses)
    for wrong in ([], [members[0], members[0]], [replace(members[0], power=10_007), members[1]]):
        with pytest.raises(ClientFault):
            ValidatorSet(wrong)
