"""Receipt proofs: from a receipt to a header that a quorum signed."""

from __future__ import annotations

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.ledger.ledger import Ledger
from chainnode.types.errors import ClientFault


def receipt_proof(ledger: Ledger, tx_id: bytes) -> types_pb2.ReceiptProof:
    """Everything a client needs to believe a receipt, given the genesis validator set.

    The path leads from the receipt to the receipts root of its height, the accumulator steps from
    there to the first header whose `exec_height` covers it, the certificate over that header.

    Raises:
        ClientFault: TX_NOT_FOUND, or PROOF_NOT_READY while no committed header covers it yet.
    """
    place = ledger.locate(tx_id)
    if place is None:
        raise ClientFault(
            "TX_NOT_FOUND",
            "No committed transaction has this id.",
            subject=tx_id.hex(),
            fix="wait for its receipt first",
            retry="after",
            retry_after_ms=1_000,
        )
    height, index = place
    header, certificate = _covering(ledger, height)
    receipts = ledger.receipts(height)
    results, before = ledger.results(height), ledger.results(height - 1)
    assert receipts is not None and results is not None and before is not None
    steps = []
    for later in range(height + 1, header.exec_height + 1):
        passed = ledger.results(later)
        assert passed is not None
        steps.append(
            types_pb2.ResultStep(state_root=passed.state_root, receipts_root=passed.receipts_root)
        )
    return types_pb2.ReceiptProof(
        height=height,
        index=index,
        receipt=receipts[index],
        path=_native.merkle_path(receipts, index),
        leaf_count=len(receipts),
        state_root=results.state_root,
        previous_accumulator=before.accumulator,
        steps=steps,
        header=header,
        certificate=certificate,
    )


def _covering(
    ledger: Ledger, height: int
) -> tuple[types_pb2.BlockHeader, types_pb2.CommitCertificate]:
    for later in range(height + 1, ledger.height + 1):
        logged = ledger.block(later)
        assert logged is not None
        header = types_pb2.Block.FromString(logged.block).header
        if header.exec_height >= height and ledger.executed_height >= header.exec_height:
            return header, types_pb2.CommitCertificate.FromString(logged.certificate)
    raise ClientFault(
        "PROOF_NOT_READY",
        f"No committed header covers height {height} yet.",
        subject=str(height),
        fix="ask again after the next blocks",
        retry="after",
        retry_after_ms=500,
    )
