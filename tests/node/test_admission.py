"""Admission in a node: verdicts in order, strangers refused, every signature checked once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import generate_latest

from chainnode import _native
from chainnode._proto import node_pb2
from chainnode.node import admission as module
from chainnode.node.admission import Admission
from chainnode.node.metrics import Metrics
from chainnode.types.errors import ClientFault
from chainnode.types.limits import GOSSIP_BATCH_TRANSACTIONS_MAX, SUBMIT_BATCH_TRANSACTIONS_MAX
from chainnode.types.transaction import Payload, PayloadKind, decode_batch, encode_batch

CHAIN = "test"
MEMBER, OTHER, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
COUNT = 40


def transaction(number: int, key: Ed25519PrivateKey = MEMBER) -> bytes:
    payload = Payload(
        CHAIN,
        PayloadKind.INVOKE,
        "asset",
        "transfer",
        b"",
        key.public_key().public_bytes_raw(),
        50,
        salt=number.to_bytes(16, "big"),
    )
    return payload.sign(key).encode()


class Door:
    """A pool behind an admission that runs."""

    def __init__(self) -> None:
        self.pool = _native.TxPool(
            CHAIN,
            expiry_window=100,
            transactions_max=10_000,
            size_max_bytes=10**8,
            transaction_size_max_bytes=10**6,
            threads=2,
        )
        for key in (MEMBER, OTHER):
            self.pool.set_member(key.public_key().public_bytes_raw(), True)
        self.metrics = Metrics()
        self.admission = Admission(self.pool, lambda: 1, self.metrics)
        self.gossiped: list[bytes] = []
        self.sent = asyncio.Event()
        self.arrived = asyncio.Event()
        self.admission.connect(self._gossip, self.arrived.set)

    def _gossip(self, batch: bytes) -> None:
        self.gossiped += decode_batch(batch)
        self.sent.set()

    def checked(self) -> int:
        """What the metric says."""
        for line in generate_latest(self.metrics.registry).decode().splitlines():
            if line.startswith("chainnode_signatures_checked "):
                return int(float(line.split()[1]))
        raise AssertionError("no such metric")

    async def held(self, wids: list[bytes]) -> None:
        """Return once the pool holds all of them."""
        while self.pool.missing(wids):
            self.arrived.clear()
            await self.arrived.wait()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    running = asyncio.create_task(made.admission.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    made.admission.close()


async def verdicts(door: Door, batch: bytes) -> list[int]:
    answer = node_pb2.SubmitResponse.FromString(await door.admission.submit(batch))
    assert len(answer.tx_ids) == len(answer.admissions)
    return [int(code) for code in answer.admissions]


async def test_batches_that_are_checked_together_get_their_own_verdicts(door: Door) -> None:
    good = [transaction(number) for number in range(30)]
    forged = good[3][:-1] + bytes([good[3][-1] ^ 1])
    alien = transaction(99, STRANGER)
    batches = [
        encode_batch(good[:3]),
        encode_batch([forged, alien, b"\xff", good[4]]),
        encode_batch([good[0], good[5]]),
        b"",
    ]
    # All wait before the first turn begins.
    answers = await asyncio.gather(*(verdicts(door, batch) for batch in batches))
    assert answers == [
        [1, 1, 1],
        [
            node_pb2.ADMISSION_BAD_SIGNATURE,
            node_pb2.ADMISSION_UNKNOWN_MEMBER,
            node_pb2.ADMISSION_MALFORMED,
            1,
        ],
        [node_pb2.ADMISSION_KNOWN, 1],
        [],
    ]
    await door.sent.wait()
    assert door.gossiped == [*good[:3], good[4], good[5]]


async def test_what_peers_sent_is_not_passed_on_and_its_sender_may_be_new(door: Door) -> None:
    theirs = [transaction(number, STRANGER) for number in range(5)]
    door.admission.from_peer(encode_batch(theirs))
    assert await verdicts(door, encode_batch([transaction(7)])) == [1]
    await door.held([_native.wid(item) for item in theirs])
    await door.sent.wait()
    assert door.gossiped == [transaction(7)]


async def test_a_transaction_of_a_peer_is_checked_once_whatever_comes_after(door: Door) -> None:
    transactions = [transaction(number, OTHER) for number in range(COUNT)]
    batch, wids = encode_batch(transactions), [_native.wid(item) for item in transactions]
    before = door.checked()
    door.admission.from_peer(batch)
    await door.held(wids)
    assert door.checked() - before == COUNT
    # Gossip of another peer, a client that tries another node, the bodies of a proposal.
    door.admission.from_peer(batch)
    assert await verdicts(door, batch) == [node_pb2.ADMISSION_KNOWN] * COUNT
    await door.admission.bodies(batch, wids)
    assert door.pool.verified(wids) == b"\1" * COUNT
    assert door.checked() - before == COUNT


async def test_a_peers_bad_batch_is_counted_and_costs_the_others_nothing(door: Door) -> None:
    door.admission.from_peer(b"\x0a\x7f")
    door.admission.from_peer(b"\x0a\x00" * (GOSSIP_BATCH_TRANSACTIONS_MAX + 1))
    good = transaction(1)
    door.admission.from_peer(encode_batch([good]))
    await door.held([_native.wid(good)])
    metrics = generate_latest(door.metrics.registry).decode()
    assert 'chainnode_peer_faults_total{code="BATCH_MALFORMED"} 1.0' in metrics
    assert 'chainnode_peer_faults_total{code="BATCH_TOO_LARGE"} 1.0' in metrics


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        (b"\x0a\x7f", "MALFORMED"),
        (b"\x12\x00", "MALFORMED"),
        (b"\x0a\x00" * (SUBMIT_BATCH_TRANSACTIONS_MAX + 1), "BATCH_TOO_LARGE"),
    ],
)
async def test_a_batch_that_is_none_is_refused_by_name(door: Door, batch: bytes, code: str) -> None:
    with pytest.raises(ClientFault) as caught:
        await door.admission.submit(batch)
    assert caught.value.code == code


async def test_a_flood_is_taken_in_turns(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_TRANSACTIONS", 10)
    batches = [
        encode_batch([transaction(7 * number + place) for place in range(7)]) for number in range(9)
    ]
    answers = await asyncio.gather(*(verdicts(door, batch) for batch in batches))
    assert answers == [[1] * 7] * 9
    assert len(door.pool) == 63


async def test_a_member_that_goes_is_a_stranger(door: Door) -> None:
    door.pool.set_member(MEMBER.public_key().public_bytes_raw(), False)
    batch = encode_batch([transaction(1)])
    assert await verdicts(door, batch) == [node_pb2.ADMISSION_UNKNOWN_MEMBER]


async def test_who_waits_when_the_node_stops_is_told(door: Door) -> None:
    door.admission.close()
    with pytest.raises(asyncio.CancelledError):
        await door.admission.submit(encode_batch([transaction(1)]))
