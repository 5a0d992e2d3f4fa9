"""The native pool against its promises and against a plain model of them."""

import threading
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from chainnode import _native
from chainnode.types.transaction import (
    Payload,
    PayloadKind,
    Transaction,
    decode_batch,
    encode_batch,
)

CHAIN = "test"
WINDOW = 100
ACCEPTED, KNOWN, MALFORMED, BAD_SIGNATURE, WRONG_CHAIN = 1, 2, 3, 4, 5
EXPIRED, EXPIRY_TOO_FAR, TOO_LARGE, POOL_FULL = 6, 7, 8, 9

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(8)]
PUBLIC = [key.public_key().public_bytes_raw() for key in KEYS]


def make(
    number: int,
    *,
    expiry: int = 50,
    chain: str = CHAIN,
    args: bytes = b"",
    endorsers: tuple[int, ...] = (),
) -> Transaction:
    sender = number % len(KEYS)
    payload = Payload(
        chain,
        PayloadKind.INVOKE,
        "asset",
        "transfer",
        args,
        PUBLIC[sender],
        expiry,
        salt=number.to_bytes(16, "big"),
    )
    signed = payload.sign(KEYS[sender])
    for endorser in endorsers:
        signed = signed.endorse(PUBLIC[endorser], KEYS[endorser])
    return signed


def pool(
    transactions_max: int = 1_000, size_max_bytes: int = 1 << 20, transaction_max: int = 10_000
) -> _native.TxPool:
    return _native.TxPool(
        CHAIN,
        expiry_window=WINDOW,
        transactions_max=transactions_max,
        size_max_bytes=size_max_bytes,
        transaction_size_max_bytes=transaction_max,
    )


def batch(*transactions: Transaction) -> bytes:
    return encode_batch([item.encode() for item in transactions])


def test_every_verdict_has_its_cause() -> None:
    good = make(1, endorsers=(2, 3))
    forged = make(2).encode()[:-1] + b"\x00"
    bad_endorsement = make(3, endorsers=(4,)).with_endorsements(
        make(4, endorsers=(4,)).endorsements
    )
    cases = [
        (good.encode(), ACCEPTED),
        (good.encode(), KNOWN),
        (b"\xff", MALFORMED),
        (forged, BAD_SIGNATURE),
        (bad_endorsement.encode(), BAD_SIGNATURE),
        (make(5, chain="other").encode(), WRONG_CHAIN),
        (make(6, expiry=20).encode(), EXPIRED),
        (make(7, expiry=121).encode(), EXPIRY_TOO_FAR),
        (make(8, args=bytes(20_000)).encode(), TOO_LARGE),
        (make(9, expiry=21).encode(), ACCEPTED),
        (make(10, expiry=120).encode(), ACCEPTED),
    ]
    target = pool()
    admissions = target.add(encode_batch([item for item, _ in cases]), 20)
    assert list(admissions.codes) == [code for _, code in cases]
    assert admissions.tx_ids[0] == good.tx_id()
    assert admissions.tx_ids[2] == b""
    fresh = [item for item, code in cases if code == ACCEPTED]
    assert decode_batch(admissions.fresh) == fresh
    assert len(target) == 3
    assert target.size_bytes == sum(map(len, fresh))
    assert list(target.add(batch(good), 20).codes) == [KNOWN]
    assert target.add(batch(good), 20).fresh == b""


def test_a_batch_that_is_no_message_is_refused_whole() -> None:
    with pytest.raises(ValueError, match="protobuf"):
        pool().add(b"\xff\xff", 1)


def test_limits_hold_and_free_again() -> None:
    small = pool(transactions_max=2)
    assert list(small.add(batch(make(1), make(2), make(3)), 1).codes) == [1, 1, POOL_FULL]
    first = make(1)
    assert small.commit([first.wid()], 2) == 1
    assert list(small.add(batch(make(3), make(1), make(4)), 2).codes) == [1, KNOWN, POOL_FULL]
    size = len(make(1).encode())
    tight = pool(size_max_bytes=2 * size)
    assert list(tight.add(batch(make(1), make(2), make(3)), 1).codes) == [1, 1, POOL_FULL]


def test_one_sender_cannot_shut_out_the_others() -> None:
    target = pool(transactions_max=6)
    flood = [make(8 * number) for number in range(5)]
    assert list(target.add(batch(*flood), 1).codes) == [ACCEPTED] * 3 + [POOL_FULL] * 2
    assert list(target.add(batch(*flood), 1).codes) == [KNOWN] * 3 + [POOL_FULL] * 2
    assert list(target.add(batch(make(1), make(2), make(3)), 1).codes) == [ACCEPTED] * 3
    # What leaves the pool makes room for the same sender again.
    target.commit([flood[0].wid()], 2)
    assert list(target.add(batch(*flood[3:]), 2).codes) == [ACCEPTED, POOL_FULL]

    size = len(make(0).encode())
    target = pool(size_max_bytes=6 * size, transaction_max=size)
    assert list(target.add(batch(*flood), 1).codes) == [ACCEPTED] * 3 + [POOL_FULL] * 2
    assert list(target.add(batch(make(1), make(2), make(3)), 1).codes) == [ACCEPTED] * 3


def test_proposals_take_the_oldest_within_both_limits_and_leave_them() -> None:
    target = pool()
    sent = [make(number) for number in range(5)]
    target.add(batch(*sent), 1)
    wids = [item.wid() for item in sent]
    size = len(sent[0].encode())
    assert target.propose(3, 1 << 20) == wids[:3]
    assert target.propose(10, 2 * size) == wids[:2]
    assert target.propose(0, 1 << 20) == []
    assert target.propose(10, 1 << 20) == wids
    assert decode_batch(target.bodies(wids[::-1])) == [item.encode() for item in sent[::-1]]


def test_a_transaction_too_big_for_a_block_holds_nobody_up() -> None:
    target = pool()
    big, small = make(1, args=bytes(5_000)), make(2)
    target.add(batch(big, small), 1)
    assert target.propose(10, 1_000) == [small.wid()]


def test_bodies_of_a_proposal_are_kept_with_their_bad_signatures() -> None:
    target = pool(transactions_max=2, size_max_bytes=600)
    good = make(1)
    bad = Transaction(make(2).payload, bytes(64))
    wids = [good.wid(), bad.wid()]
    assert target.missing(wids) == wids
    assert target.add_bodies(batch(good, bad, make(3, chain="other"))) == 2
    assert target.add_bodies(batch(good, bad)) == 0
    assert target.missing([*wids, make(3, chain="other").wid()]) == [make(3, chain="other").wid()]
    assert target.verified([*wids, bytes(32)]) == b"\x01\x00\x00"
    assert len(target) == 0
    assert target.propose(10, 1 << 20) == []
    # What a proposal brought and a client submits then is pending as well.
    assert list(target.add(batch(good, bad), 1).codes) == [ACCEPTED, BAD_SIGNATURE]
    assert target.propose(10, 1 << 20) == [good.wid()]
    target.commit(wids, 2)
    assert target.missing(wids) == wids
    with pytest.raises(KeyError, match=good.wid().hex()):
        target.bodies(wids)


def test_expired_transactions_leave_but_stay_readable_for_a_proposal_on_its_way() -> None:
    target = pool()
    late = make(1, expiry=10)
    target.add(batch(late), 5)
    assert target.commit([], 9) == 0
    assert target.commit([], 10) == 1
    assert len(target) == 0
    assert target.propose(10, 1 << 20) == []
    assert target.missing([late.wid()]) == []
    target.commit([], 14)
    assert target.missing([late.wid()]) == [late.wid()]


def test_one_payload_with_other_endorsements_is_one_transaction() -> None:
    target = pool()
    plain, endorsed = make(1), make(1, endorsers=(5,))
    assert plain.tx_id() == endorsed.tx_id()
    assert list(target.add(batch(plain, endorsed), 1).codes) == [ACCEPTED, KNOWN]
    assert target.commit([endorsed.wid()], 2) == 0
    assert target.executed([endorsed.tx_id()], [50], 2) == 1
    assert list(target.add(batch(plain), 2).codes) == [KNOWN]


def test_committed_ids_are_known_until_they_expire_and_after_a_restart() -> None:
    target = pool()
    done = make(1, expiry=50)
    target.restore([done.tx_id()], [50])
    assert list(target.add(batch(done), 49).codes) == [KNOWN]
    assert list(target.add(batch(done), 50).codes) == [EXPIRED]
    with pytest.raises(ValueError, match="one expiry height"):
        target.restore([done.tx_id()], [])
    with pytest.raises(ValueError, match="not 32"):
        target.missing([b"short"])


def test_ids_are_known_from_the_commit_of_their_block_on_before_execution_names_them() -> None:
    target = pool()
    sent, forged = make(1), Transaction(make(2).payload, bytes(64))
    target.add(batch(sent), 1)
    target.add_bodies(batch(forged))
    target.commit([sent.wid(), forged.wid()], 2)
    # The forged copy had its turn; the real transaction has not.
    assert list(target.add(batch(sent, make(2)), 2).codes) == [KNOWN, ACCEPTED]
    assert target.executed([sent.tx_id(), forged.tx_id()], [50, 50], 2) == 1
    assert list(target.add(batch(sent, make(2)), 2).codes) == [KNOWN, KNOWN]


def test_an_id_that_its_block_did_not_use_up_may_come_again_as_after_a_restart() -> None:
    warm = pool()
    used, refused = make(1), make(2)
    warm.add(batch(used, refused), 1)
    wids, tx_ids = [used.wid(), refused.wid()], [used.tx_id(), refused.tx_id()]
    warm.commit(wids, 2)
    # Decided, not yet executed: neither may be proposed once more.
    assert list(warm.add(batch(used, refused), 2).codes) == [KNOWN, KNOWN]
    warm.executed(tx_ids, [50, 0], 2)
    restarted = pool()
    restarted.restore(tx_ids, [50, 0])
    for target in (warm, restarted):
        assert list(target.add(batch(used, refused), 2).codes) == [KNOWN, ACCEPTED]
        assert target.propose(9, 1 << 20) == [refused.wid()]


def test_an_id_decided_again_before_its_first_outcome_stays_known() -> None:
    target = pool()
    refused = make(2)
    target.add(batch(refused), 1)
    target.commit([refused.wid()], 2)
    target.add_bodies(batch(refused))
    target.commit([refused.wid()], 3)
    target.executed([refused.tx_id()], [0], 2)
    assert list(target.add(batch(refused), 3).codes) == [KNOWN]
    target.executed([refused.tx_id()], [0], 3)
    assert list(target.add(batch(refused), 3).codes) == [ACCEPTED]


def test_bodies_nobody_asked_for_are_not_kept() -> None:
    target = pool()
    wanted, junk = make(1), make(2)
    assert target.add_bodies(batch(wanted, junk), [wanted.wid()]) == 1
    assert target.missing([wanted.wid(), junk.wid()]) == [junk.wid()]
    assert target.add_bodies(batch(junk), []) == 0


def test_threads_that_submit_the_same_keep_one_copy() -> None:
    target = pool()
    data = batch(*[make(number) for number in range(60)])
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(target.add(data, 1).codes)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(target) == 60
    codes = [sorted(column) for column in zip(*results, strict=True)]
    assert codes == [[ACCEPTED, KNOWN, KNOWN, KNOWN]] * 60


@dataclass
class Model:
    """The pool's promise in a few lines of dictionaries."""

    pending: dict[bytes, Transaction] = field(default_factory=dict)
    committed: dict[bytes, int] = field(default_factory=dict)
    height: int = 1

    def add(self, transaction: Transaction) -> int:
        expiry = transaction.payload.expiry_height
        if expiry <= self.height:
            return EXPIRED
        if expiry > self.height + WINDOW:
            return EXPIRY_TOO_FAR
        if transaction.tx_id() in self.pending or transaction.tx_id() in self.committed:
            return KNOWN
        self.pending[transaction.tx_id()] = transaction
        return ACCEPTED

    def commit(self, transactions: list[Transaction], height: int) -> None:
        self.height = height
        for item in transactions:
            self.pending.pop(item.tx_id(), None)
            if item.payload.expiry_height > height:
                self.committed[item.tx_id()] = item.payload.expiry_height
        self.pending = {
            key: item for key, item in self.pending.items() if item.payload.expiry_height > height
        }
        self.committed = {key: end for key, end in self.committed.items() if end > height}


SIGNED = [make(number, expiry=2 + 7 * number) for number in range(24)]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 23), max_size=8)),
        st.tuples(st.just("commit"), st.lists(st.integers(0, 23), max_size=6)),
        st.tuples(st.just("propose"), st.lists(st.integers(0, 20), max_size=1)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 9))
def test_any_history_matches_the_model(steps: list[tuple[str, list[int]]], stride: int) -> None:
    target, model = pool(), Model()
    for action, numbers in steps:
        chosen = [SIGNED[number] for number in numbers]
        if action == "add":
            expected = [model.add(item) for item in chosen]
            assert list(target.add(batch(*chosen), model.height).codes) == expected
        elif action == "commit":
            # A block holds what the pool proposed or what others did.
            height = model.height + stride
            target.commit([item.wid() for item in chosen], height)
            expiries = [item.payload.expiry_height for item in chosen]
            target.executed([item.tx_id() for item in chosen], expiries, height)
            model.commit(chosen, height)
        else:
            count = numbers[0] if numbers else 100
            expected_wids = [item.wid() for item in model.pending.values()][:count]
            assert target.propose(count, 1 << 20) == expected_wids
        assert len(target) == len(model.pending)
        assert target.size_bytes == sum(len(item.encode()) for item in model.pending.values())
