"""Receipt proofs: an honest one convinces, and every single tampering is named."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.types.block import Architecture, BlockHeader
from chainnode.types.codec import encode
from chainnode.types.errors import PeerFault
from chainnode.types.proof import (
    PROOF_STEPS_MAX,
    decode_receipt_proof,
    genesis_accumulator,
    next_accumulator,
    verify_receipt_proof,
)
from chainnode.types.receipt import Receipt, ReceiptStatus
from chainnode.types.validators import Validator, ValidatorSet
from chainnode.types.vote import CommitCertificate, CommitSignature, Vote, VoteType

CHAIN = "test"
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 5)]
VALIDATORS = ValidatorSet(
    Validator(key.public_key().public_bytes_raw(), f"org-{index}", 1)
    for index, key in enumerate(KEYS)
)
RECEIPTS = [
    Receipt(bytes([number]) * 32, ReceiptStatus.OK, wid=bytes(32)).encode() for number in range(5)
]


def certificate(header: BlockHeader, keys: list[Ed25519PrivateKey]) -> CommitCertificate:
    signatures = []
    for key in keys:
        address = _native.address(key.public_key().public_bytes_raw())
        vote = Vote(VoteType.PRECOMMIT, header.height, 0, header.hash(), 99, address, 0)
        signatures.append(CommitSignature(address, 99, key.sign(vote.sign_bytes(header.chain_id))))
    ordered = tuple(sorted(signatures, key=lambda item: item.validator))
    return CommitCertificate(header.height, 0, header.hash(), 0, ordered)


def make_header(chain_id: str, results: bytes, roots: tuple[bytes, bytes]) -> BlockHeader:
    zero = bytes(32)
    return BlockHeader(
        version=1,
        chain_id=chain_id,
        height=12,
        previous_hash=zero,
        timestamp_ms=99,
        tx_root=zero,
        tx_count=0,
        engine="tbft",
        engine_epoch=0,
        validators_hash=VALIDATORS.hash(),
        next_validators_hash=VALIDATORS.hash(),
        architecture=Architecture("ox-serial", 1, zero, 100, 10),
        proposer=VALIDATORS.addresses[0],
        last_commit_hash=zero,
        evidence_hash=zero,
        exec_height=10,
        state_root=roots[0],
        receipts_root=roots[1],
        results_accumulator=results,
    )


def make_proof(
    *, chain_id: str = CHAIN, signers: int = 3, index: int = 4
) -> types_pb2.ReceiptProof:
    """A receipt of height 8, proved by the header of height 12, which covers height 10."""
    before = genesis_accumulator(b"g" * 32, _native.merkle_root([]))
    accumulator = next_accumulator(before, b"s" * 32, _native.merkle_root(RECEIPTS))
    steps = [(bytes([number]) * 32, bytes([number + 1]) * 32) for number in (20, 30)]
    for state_root, receipts_root in steps:
        accumulator = next_accumulator(accumulator, state_root, receipts_root)
    header = make_header(chain_id, accumulator, steps[-1])
    return types_pb2.ReceiptProof(
        height=8,
        index=index,
        receipt=RECEIPTS[index],
        path=_native.merkle_path(RECEIPTS, index),
        leaf_count=len(RECEIPTS),
        state_root=b"s" * 32,
        previous_accumulator=before,
        steps=[types_pb2.ResultStep(state_root=a, receipts_root=b) for a, b in steps],
        header=header.to_proto(),
        certificate=certificate(header, KEYS[:signers]).to_proto(),
    )


@pytest.mark.parametrize("index", range(5))
def test_an_honest_proof_convinces(index: int) -> None:
    proof = decode_receipt_proof(encode(make_proof(index=index)))
    receipt = verify_receipt_proof(proof, CHAIN, VALIDATORS)
    assert receipt.tx_id == bytes([index]) * 32


def _other_receipt(proof: types_pb2.ReceiptProof) -> None:
    proof.receipt = RECEIPTS[0]


def _forged_status(proof: types_pb2.ReceiptProof) -> None:
    proof.receipt = Receipt(bytes(32), ReceiptStatus.OUT_OF_GAS).encode()


def _longer_path(proof: types_pb2.ReceiptProof) -> None:
    proof.path.append(bytes(32))


def _wrong_count(proof: types_pb2.ReceiptProof) -> None:
    proof.leaf_count = 4


def _other_state(proof: types_pb2.ReceiptProof) -> None:
    proof.state_root = b"t" * 32


def _moved_boundary(proof: types_pb2.ReceiptProof) -> None:
    proof.previous_accumulator, proof.state_root = (
        proof.previous_accumulator + proof.state_root[:1],
        proof.state_root[1:],
    )


def _missing_step(proof: types_pb2.ReceiptProof) -> None:
    del proof.steps[0]


def _many_steps(proof: types_pb2.ReceiptProof) -> None:
    proof.steps.extend([types_pb2.ResultStep()] * PROOF_STEPS_MAX)


def _other_block(proof: types_pb2.ReceiptProof) -> None:
    proof.header.timestamp_ms += 1


def _other_height(proof: types_pb2.ReceiptProof) -> None:
    proof.certificate.height += 1


def _forged_vote(proof: types_pb2.ReceiptProof) -> None:
    proof.certificate.signatures[1].signature = bytes(64)


def _other_set(proof: types_pb2.ReceiptProof) -> None:
    proof.header.validators_hash = bytes(32)


def _no_receipt(proof: types_pb2.ReceiptProof) -> None:
    proof.receipt = b"\xff"


@pytest.mark.parametrize(
    ("tamper", "step"),
    [
        (_other_receipt, "accumulator"),
        (_forged_status, "accumulator"),
        (_longer_path, "path"),
        (_wrong_count, "path"),
        (_other_state, "accumulator"),
        (_moved_boundary, "accumulator"),
        (_missing_step, "steps"),
        (_many_steps, "shape"),
        (_other_block, "certificate"),
        (_other_height, "certificate"),
        (_forged_vote, "certificate"),
        (_other_set, "validators"),
        (_no_receipt, "shape"),
    ],
)
def test_every_tampering_is_refused_at_its_step(
    tamper: Callable[[types_pb2.ReceiptProof], None], step: str
) -> None:
    proof = make_proof()
    tamper(proof)
    with pytest.raises(PeerFault) as caught:
        verify_receipt_proof(proof, CHAIN, VALIDATORS)
    assert (caught.value.code, caught.value.subject) == ("PROOF_INVALID", step)


def test_another_chain_or_too_few_votes_are_refused() -> None:
    for proof, step in (
        (make_proof(chain_id="other"), "chain"),
        (make_proof(signers=2), "certificate"),
    ):
        with pytest.raises(PeerFault) as caught:
            verify_receipt_proof(proof, CHAIN, VALIDATORS)
        assert caught.value.subject == step
