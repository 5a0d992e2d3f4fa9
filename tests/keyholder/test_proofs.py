"""A keyholder believes a result only by a proof: a lying node gets no share."""

import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from local_chain import CHAIN_ID, LocalLedger

from chainnode._proto import types_pb2
from chainnode.keyholder.proofs import proven_result
from chainnode.sdk.scoring import CONTRACT
from chainnode.types.codec import merkle_root
from chainnode.types.errors import PeerFault
from chainnode.types.proof import next_accumulator
from chainnode.types.receipt import Event, Receipt, ReceiptStatus

QUERY, RESULT, TERMS = (hashlib.sha256(name).digest() for name in (b"query", b"result", b"terms"))
TX = hashlib.sha256(b"tx").digest()


def ledger_with(event: Event, status: ReceiptStatus = ReceiptStatus.OK) -> LocalLedger:
    ledger = LocalLedger()
    receipt = Receipt(TX, status, events=(event,), wid=bytes(32))
    ledger.places[TX] = 0
    ledger.receipts.append(receipt)
    root = merkle_root([receipt.encode()])
    ledger.accumulators.append(next_accumulator(ledger.accumulators[-1], bytes(32), root))
    return ledger


def finalised(query: bytes = QUERY, contract: str = CONTRACT) -> Event:
    return Event(contract, "QueryFinalised", query + RESULT + TERMS)


def test_a_proven_event_gives_the_result_hash() -> None:
    ledger = ledger_with(finalised())
    assert proven_result(ledger.proof(TX), CHAIN_ID, ledger.validators, QUERY, TERMS) == RESULT


@pytest.mark.parametrize(
    "event",
    [
        finalised(query=bytes(32)),
        finalised(contract="other"),
        Event(CONTRACT, "QueryStep", QUERY + RESULT + TERMS),
        Event(CONTRACT, "QueryFinalised", QUERY + RESULT),
    ],
)
def test_another_event_is_no_result(event: Event) -> None:
    ledger = ledger_with(event)
    with pytest.raises(PeerFault, match="RESULT_NOT_FINALISED"):
        proven_result(ledger.proof(TX), CHAIN_ID, ledger.validators, QUERY, TERMS)


def test_a_reverted_transaction_finalises_nothing() -> None:
    ledger = ledger_with(finalised(), ReceiptStatus.REVERTED)
    with pytest.raises(PeerFault, match="RESULT_NOT_FINALISED"):
        proven_result(ledger.proof(TX), CHAIN_ID, ledger.validators, QUERY, TERMS)


def test_a_node_cannot_change_who_receives_the_answer() -> None:
    ledger = ledger_with(finalised())
    with pytest.raises(PeerFault, match="other terms"):
        proven_result(ledger.proof(TX), CHAIN_ID, ledger.validators, QUERY, bytes(32))


def forge_receipt(proof: types_pb2.ReceiptProof) -> None:
    receipt = Receipt(
        TX, ReceiptStatus.OK, events=(Event(CONTRACT, "QueryFinalised", QUERY + TERMS + TERMS),)
    )
    proof.receipt = receipt.encode()


def drop_signatures(proof: types_pb2.ReceiptProof) -> None:
    del proof.certificate.signatures[2:]


def forge_signature(proof: types_pb2.ReceiptProof) -> None:
    proof.certificate.signatures[0].signature = Ed25519PrivateKey.generate().sign(b"x")


def move_height(proof: types_pb2.ReceiptProof) -> None:
    proof.header.height += 1


@pytest.mark.parametrize("forge", [forge_receipt, drop_signatures, forge_signature, move_height])
def test_a_forged_proof_is_refused(forge: Callable[[types_pb2.ReceiptProof], None]) -> None:
    ledger = ledger_with(finalised())
    proof = ledger.proof(TX)
    forge(proof)
    with pytest.raises(PeerFault, match="PROOF_INVALID"):
        proven_result(proof, CHAIN_ID, ledger.validators, QUERY, TERMS)


def test_validators_of_another_chain_prove_nothing() -> None:
    ledger, other = ledger_with(finalised()), LocalLedger()
    with pytest.raises(PeerFault, match="PROOF_INVALID"):
        proven_result(ledger.proof(TX), CHAIN_ID, other.validators, QUERY, TERMS)
    with pytest.raises(PeerFault, match="PROOF_INVALID"):
        proven_result(ledger.proof(TX), "elsewhere", ledger.validators, QUERY, TERMS)
