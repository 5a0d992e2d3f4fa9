"""Transactions, receipts, members and genesis: round trips, hashes by definition, refusals."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from chainnode import _native
from chainnode.types.codec import encode, merkle_root
from chainnode.types.errors import ClientFault
from chainnode.types.genesis import ChainConfig, Genesis, Policy
from chainnode.types.member import Member, MemberStatus, Organisation, Role
from chainnode.types.receipt import Event, Receipt, ReceiptStatus
from chainnode.types.transaction import (
    Endorsement,
    Payload,
    PayloadKind,
    Transaction,
    decode_batch,
    encode_batch,
)
from chainnode.types.validators import Validator

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHERS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3)]


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def payload() -> Payload:
    return Payload("test", PayloadKind.INVOKE, "asset", "transfer", b"args", public(KEY), 77, 1_000)


def test_ids_and_signatures_are_over_the_bytes_the_format_names() -> None:
    signed = payload().sign(KEY)
    canonical = encode(signed.payload.to_proto())
    tx_id = hashlib.sha256(b"chainnode/tx-id/v1" + canonical).digest()
    assert signed.tx_id() == tx_id == _native.check_transaction(signed.encode())
    assert signed.wid() == hashlib.sha256(b"chainnode/wid/v1" + signed.encode()).digest()
    KEY.public_key().verify(signed.signature, b"chainnode/tx/v1" + tx_id)
    endorsed = signed.endorse(public(OTHERS[0]), OTHERS[0])
    assert endorsed.tx_id() == tx_id
    assert endorsed.wid() != signed.wid()
    OTHERS[0].public_key().verify(
        endorsed.endorsements[0].signature, b"chainnode/endorse/v1" + tx_id
    )


def test_equal_calls_are_two_transactions_and_endorsements_stay_sorted() -> None:
    assert payload().tx_id() != payload().tx_id()
    signed = payload().sign(KEY)
    for key in (*OTHERS, OTHERS[0]):
        signed = signed.endorse(public(key), key)
    endorsers = [item.endorser for item in signed.endorsements]
    assert endorsers == sorted(public(key) for key in OTHERS)
    assert Transaction.decode(signed.encode()) == signed


def test_a_malformed_transaction_is_refused_with_field_and_rule() -> None:
    signed = payload().sign(KEY)
    twice = (Endorsement(public(KEY), bytes(64)),) * 2
    cases = [
        (replace(signed, payload=replace(signed.payload, salt=b"short")), "payload.salt"),
        (replace(signed, payload=replace(signed.payload, contract="")), "payload.contract"),
        (replace(signed, signature=b""), "signature"),
        (replace(signed, endorsements=twice), "endorsements"),
    ]
    for transaction, field in cases:
        with pytest.raises(ClientFault, match=field) as caught:
            Transaction.decode(transaction.encode())
        assert caught.value.code == "MALFORMED"
    with pytest.raises(ClientFault, match="not canonical"):
        Transaction.decode(signed.encode() + b"\x12\x00")


def test_batches_keep_order_and_bytes() -> None:
    items = [payload().sign(KEY).encode() for _ in range(3)]
    assert decode_batch(encode_batch(items)) == items
    assert encode_batch([]) == b""


def test_receipts_survive_their_bytes() -> None:
    receipt = Receipt(
        tx_id=bytes(32),
        status=ReceiptStatus.REVERTED,
        gas_used=5,
        events=(Event("asset", "moved", b"\x01"),),
        error_code=7,
        message="balance too low",
        wid=bytes(32),
    )
    assert Receipt.decode(receipt.encode()) == receipt
    assert not receipt.ok
    with pytest.raises(ClientFault, match="tx_id"):
        Receipt.decode(replace(receipt, tx_id=b"short").encode())
    with pytest.raises(ClientFault, match="no status"):
        Receipt.decode(b"\x10\x63")


def member(number: int, organisation: str = "bank-a") -> Member:
    return Member(
        public_key=public(OTHERS[number]),
        organisation=organisation,
        role=Role.CONSENSUS,
        name=f"node-{number}",
        not_before_ms=1,
        not_after_ms=2,
        tls_key_hash=bytes(32),
        certificate_hash=bytes(32),
    )


def genesis() -> Genesis:
    members = (member(0), member(1))
    validators = [Validator(item.public_key, item.organisation, 1) for item in members]
    return Genesis(
        ChainConfig(chain_id="test"),
        1_000,
        (Organisation("bank-a", "Bank A", b"der"),),
        members,
        tuple(sorted(validators, key=lambda item: item.address)),
    )


def test_genesis_hash_is_by_definition_and_survives_its_bytes() -> None:
    made = genesis()
    assert Genesis.decode(made.encode()) == made
    expected = hashlib.sha256(b"chainnode/genesis/v1" + made.encode()).digest()
    assert made.genesis_hash() == expected
    assert ChainConfig.decode(made.config.encode()) == made.config
    frozen = replace(made.members[0], status=MemberStatus.FROZEN)
    assert Member.decode(frozen.encode()) == frozen


def test_a_genesis_whose_parts_do_not_fit_is_refused() -> None:
    made = genesis()
    cases = [
        (replace(made, members=(member(0), member(0))), "a key appears twice"),
        (replace(made, members=(member(0, "bank-z"),)), "unknown 'bank-z'"),
        (replace(made, validators=made.validators[::-1]), "not sorted"),
        (replace(made, organisations=made.organisations * 2), "an id appears twice"),
        (replace(made, config=replace(made.config, block_tx_cap_min=0)), "block_tx_cap_min"),
        (replace(made, config=replace(made.config, suite="rot13")), "suite"),
    ]
    for broken, reason in cases:
        with pytest.raises(ClientFault, match=reason):
            Genesis.decode(broken.encode())


def test_policies_survive_the_wire() -> None:
    config = ChainConfig(chain_id="test", policies=(Policy("config", 3),))
    assert ChainConfig.from_proto(config.to_proto()).policies == (Policy("config", 3),)


@given(st.lists(st.binary(max_size=20), max_size=40), st.data())
def test_native_merkle_trees_equal_the_python_ones(
    leaves: list[bytes], data: st.DataObject
) -> None:
    root = _native.merkle_root(leaves)
    assert root == merkle_root(leaves)
    if leaves:
        index = data.draw(st.integers(0, len(leaves) - 1))
        path = _native.merkle_path(leaves, index)
        assert _native.verify_merkle_path(root, leaves[index], index, len(leaves), path)
        assert not _native.verify_merkle_path(root, b"other" * 5, index, len(leaves), path)
    with pytest.raises(IndexError):
        _native.merkle_path(leaves, len(leaves))
