"""Each signature is checked once per node: at the pool's door, then known by wid."""

from execution_chain import ALICE, BOB, CHAIN_ID, Chain, install, transaction, transfer_args

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.types.codec import encode

COUNT = 50


def new_pool() -> _native.TxPool:
    return _native.TxPool(
        CHAIN_ID,
        expiry_window=100,
        transactions_max=1_000,
        size_max_bytes=10**7,
        transaction_size_max_bytes=10**6,
    )


def test_signatures_are_checked_once_from_admission_to_receipt() -> None:
    chain, pool = Chain(), new_pool()
    chain.block([install()])
    transfers = [transaction(ALICE, "transfer", transfer_args(BOB, 1), n) for n in range(COUNT)]
    batch = encode(types_pb2.TransactionBatch(transactions=transfers))
    wids = [_native.wid(item) for item in transfers]

    start = _native.signatures_checked()
    admitted = pool.add(batch, 1)
    assert [item for item in admitted.codes if item != 1] == [], admitted.codes
    assert _native.signatures_checked() - start == COUNT

    pool.add(batch, 1)
    pool.add_bodies(batch)
    verified = pool.verified(wids)
    assert verified == b"\1" * COUNT
    result = chain.block(transfers, verified=1)
    assert len({*result.tx_ids}) == COUNT
    statuses = {types_pb2.Receipt.FromString(item).status for item in result.receipts}
    assert statuses == {types_pb2.RECEIPT_STATUS_OK}
    assert _native.signatures_checked() - start == COUNT


def test_a_body_that_came_with_a_proposal_is_checked_once_too() -> None:
    pool = new_pool()
    good = transaction(ALICE, "transfer", transfer_args(BOB, 1), 1)
    forged = transaction(ALICE, "transfer", transfer_args(BOB, 1), 2, forge=True)
    batch = encode(types_pb2.TransactionBatch(transactions=[good, forged]))
    start = _native.signatures_checked()
    pool.add_bodies(batch)
    assert pool.verified([_native.wid(good), _native.wid(forged)]) == b"\1\0"
    assert _native.signatures_checked() - start == 2
    pool.add_bodies(batch)
    pool.add(encode(types_pb2.TransactionBatch(transactions=[good])), 1)
    assert _native.signatures_checked() - start == 2
