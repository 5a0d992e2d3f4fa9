"""Receipt proofs: believing one receipt with nothing but the genesis validator set.

The path: the receipt is a leaf of its height's receipts root; that root enters the accumulator
`R_h = SHA-256("chainnode/results/v1" || R_(h-1) || state_root_h || receipts_root_h)`; a header
carries `R` at its `exec_height`; a quorum signed that header.
"""

from __future__ import annotations

import hashlib
from typing import Final

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.types.block import BlockHeader
from chainnode.types.codec import decode
from chainnode.types.errors import ChainnodeError, PeerFault
from chainnode.types.limits import SYNC_BLOCKS_PER_REQUEST_MAX
from chainnode.types.receipt import Receipt
from chainnode.types.validators import ValidatorSet
from chainnode.types.vote import CommitCertificate

PROOF_STEPS_MAX: Final = SYNC_BLOCKS_PER_REQUEST_MAX
"""Heights between a receipt and the header that covers it; depth is 1 to 4 in practice."""


def genesis_accumulator(state_root: bytes, receipts_root: bytes) -> bytes:
    """R_0, from the roots of the genesis state."""
    return next_accumulator(bytes(32), state_root, receipts_root)


def next_accumulator(previous: bytes, state_root: bytes, receipts_root: bytes) -> bytes:
    """R_h from R_(h-1) and the roots after height h."""
    return hashlib.sha256(b"chainnode/results/v1" + previous + state_root + receipts_root).digest()


def receipts_root_of(
    receipt: bytes, index: int, leaf_count: int, path: tuple[bytes, ...]
) -> bytes | None:
    """The receipts root that a path leads to; None when the path has the wrong length."""
    if not 0 <= index < leaf_count:
        return None
    node = hashlib.sha256(b"\x00" + receipt).digest()
    siblings = iter(path)
    position, width = index, leaf_count
    while width > 1:
        # The last node of an odd level has no sibling: it moves up unchanged.
        if position ^ 1 < width:
            sibling = next(siblings, None)
            if sibling is None or len(sibling) != 32:
                return None
            pair = sibling + node if position & 1 else node + sibling
            node = hashlib.sha256(b"\x01" + pair).digest()
        position //= 2
        width = (width + 1) // 2
    return node if next(siblings, None) is None else None


def verify_receipt_proof(
    proof: types_pb2.ReceiptProof, chain_id: str, validators: ValidatorSet
) -> Receipt:
    """Return the receipt if a quorum of `validators` vouches for it, or raise.

    Args:
        proof: as a node sent it.
        chain_id: the chain the caller means.
        validators: the set of the header's height; without membership changes the genesis set.

    Raises:
        PeerFault: `PROOF_INVALID`; the subject is the step that failed.
    """
    if proof.height < 1 or len(proof.steps) > PROOF_STEPS_MAX:
        raise _refused("shape", f"height {proof.height}, {len(proof.steps)} steps")
    try:
        receipt = Receipt.decode(proof.receipt)
        header = BlockHeader.from_proto(proof.header)
        certificate = CommitCertificate.from_proto(proof.certificate)
    except ChainnodeError as error:
        raise _refused("shape", str(error)) from error
    _check_results(proof, header)
    _check_signatures(header, certificate, chain_id, validators)
    return receipt


def decode_receipt_proof(data: bytes) -> types_pb2.ReceiptProof:
    """Read canonical bytes of a proof.

    Raises:
        ClientFault: `MALFORMED`.
    """
    return decode(types_pb2.ReceiptProof, data)


def _check_results(proof: types_pb2.ReceiptProof, header: BlockHeader) -> None:
    receipts_root = receipts_root_of(
        proof.receipt, proof.index, proof.leaf_count, tuple(proof.path)
    )
    if receipts_root is None:
        raise _refused("path", f"no path of leaf {proof.index} of {proof.leaf_count}")
    if header.exec_height != proof.height + len(proof.steps):
        raise _refused("steps", f"lead past the header's exec_height {header.exec_height}")
    roots = [(proof.state_root, receipts_root)]
    roots += [(step.state_root, step.receipts_root) for step in proof.steps]
    # The accumulator hashes a concatenation: other lengths could move a boundary.
    if any(len(part) != 32 for part in (proof.previous_accumulator, *sum(roots, ()))):
        raise _refused("accumulator", "a root is not 32 bytes")
    accumulator = proof.previous_accumulator
    for state_root, root in roots:
        accumulator = next_accumulator(accumulator, state_root, root)
    if accumulator != header.results_accumulator:
        raise _refused("accumulator", "the results do not lead to the header's accumulator")
    if roots[-1] != (header.state_root, header.receipts_root):
        raise _refused("accumulator", "the last roots are not the header's")


def _check_signatures(
    header: BlockHeader, certificate: CommitCertificate, chain_id: str, validators: ValidatorSet
) -> None:
    if header.chain_id != chain_id:
        raise _refused("chain", f"the header is of {header.chain_id!r}, not {chain_id!r}")
    if header.validators_hash != validators.hash():
        raise _refused("validators", "the header names another validator set")
    if (certificate.height, certificate.block_hash) != (header.height, header.hash()):
        raise _refused("certificate", "is for another block")
    try:
        validators.verify_certificate(chain_id, certificate, _native.verify_ed25519_batch)
    except ChainnodeError as error:
        raise _refused("certificate", error.message) from error


def _refused(step: str, reason: str) -> PeerFault:
    return PeerFault(
        "PROOF_INVALID",
        f"the proof fails at its {step}: {reason}",
        subject=step,
        fix="ask another node; if it repeats, report the node",
    )
