"""What a block must satisfy before anyone votes for it, judged from the chain alone."""

from __future__ import annotations

from chainnode.consensus.interface import ConsensusConfig, HeightState
from chainnode.types.block import Block
from chainnode.types.errors import ChainnodeError
from chainnode.types.limits import EVIDENCE_AGE_MAX_HEIGHTS
from chainnode.types.validators import VerifyBatch
from chainnode.types.vote import CommitCertificate, Evidence


def block_time_ms(state: HeightState) -> int:
    """BFT time of the next block: the median of `last_commit`, always above the previous block's.

    Block 1 carries the genesis time.
    """
    if not state.last_commit.signatures:
        return state.previous_time_ms
    median = state.last_validators.median_time_ms(state.last_commit)
    return max(median, state.previous_time_ms + 1)


def check_block(
    config: ConsensusConfig, state: HeightState, block: Block, verify_batch: VerifyBatch
) -> str:
    """Return why a well-formed block may not be decided at this height, or an empty string.

    The certificate inside may be another one than ours: any valid one for the previous block does,
    and the block's time follows from the one it carries.
    """
    header = block.header
    expected = (
        ("chain_id", header.chain_id, config.chain_id),
        ("height", header.height, state.height),
        ("previous_hash", header.previous_hash, state.previous_hash),
        ("engine", header.engine, config.engine),
        ("engine_epoch", header.engine_epoch, state.engine_epoch),
        ("validators_hash", header.validators_hash, state.validators.hash()),
        ("next_validators_hash", header.next_validators_hash, state.next_validators.hash()),
    )
    for name, found, wanted in expected:
        if found != wanted:
            return f"header field {name} is wrong"
    if header.proposer not in state.validators:
        return "the proposer is no validator"
    try:
        reason = _check_last_commit(config, state, block, verify_batch)
    except ChainnodeError as error:
        return error.message
    return reason or _check_evidence(config, state, block.evidence, verify_batch)


def check_evidence(
    config: ConsensusConfig, state: HeightState, evidence: Evidence, verify_batch: VerifyBatch
) -> bool:
    """Whether evidence belongs into a block of this height: recent, and signed by a validator."""
    height = evidence.first.height
    if not state.height - EVIDENCE_AGE_MAX_HEIGHTS <= height <= state.height:
        return False
    validators = state.last_validators if height == state.height - 1 else state.validators
    return validators.verify_evidence(config.chain_id, evidence, verify_batch)


def _check_last_commit(
    config: ConsensusConfig, state: HeightState, block: Block, verify_batch: VerifyBatch
) -> str:
    certificate = block.last_commit
    if not state.last_commit.signatures:
        if certificate != CommitCertificate.empty():
            return "the first block carries a certificate"
        time_ms = state.previous_time_ms
    else:
        if (certificate.height, certificate.block_hash) != (
            state.height - 1,
            state.previous_hash,
        ):
            return "last_commit is not of the previous block"
        state.last_validators.verify_certificate(config.chain_id, certificate, verify_batch)
        median = state.last_validators.median_time_ms(certificate)
        time_ms = max(median, state.previous_time_ms + 1)
    if block.header.timestamp_ms != time_ms:
        return f"timestamp_ms is {block.header.timestamp_ms}, the votes say {time_ms}"
    return ""


def _check_evidence(
    config: ConsensusConfig,
    state: HeightState,
    evidence: tuple[Evidence, ...],
    verify_batch: VerifyBatch,
) -> str:
    if len({item.key() for item in evidence}) != len(evidence):
        return "evidence repeats"
    if not all(check_evidence(config, state, item, verify_batch) for item in evidence):
        return "evidence is old or its signatures are wrong"
    return ""
