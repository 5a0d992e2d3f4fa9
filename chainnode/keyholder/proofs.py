"""What a keyholder believes about a result: only what a quorum of validators signed."""

from __future__ import annotations

from typing import Final

from chainnode._proto import types_pb2
from chainnode.sdk.scoring import CONTRACT
from chainnode.types.errors import PeerFault
from chainnode.types.proof import verify_receipt_proof
from chainnode.types.validators import ValidatorSet

FINALISED: Final = "QueryFinalised"


def proven_result(
    proof: types_pb2.ReceiptProof,
    chain_id: str,
    validators: ValidatorSet,
    query: bytes,
    terms: bytes,
) -> bytes:
    """The result hash that the contract finalised for this query on these terms.

    Args:
        proof: of the transaction that finalised it, as a node sent it.
        chain_id: from the genesis this organisation holds.
        validators: of that genesis.
        query: 32-byte id.
        terms: `QueryFacts.terms` of the record the node states.

    Raises:
        PeerFault: `PROOF_INVALID`, or `RESULT_NOT_FINALISED` when the receipt says something else.
    """
    receipt = verify_receipt_proof(proof, chain_id, validators)
    if receipt.ok:
        for event in receipt.events:
            # The event's fields are three 32-byte values, one after the other.
            if (event.contract, event.name) == (CONTRACT, FINALISED) and len(event.data) == 96:
                if event.data[:32] != query:
                    continue
                if event.data[64:] != terms:
                    raise _not_finalised(query, "on other terms than the node states")
                return event.data[32:64]
    raise _not_finalised(query, "by this transaction")


def _not_finalised(query: bytes, reason: str) -> PeerFault:
    return PeerFault(
        "RESULT_NOT_FINALISED",
        f"the query was not finalised {reason}",
        subject=query.hex(),
        fix="connect the keyholder to another node and look at this one",
    )
