"""Signatures that one check might accept and another refuse: every part of a node uses one rule.

A cofactorless check refuses R plus a point of small order, a cofactored one accepts it; a batch is
always cofactored. So one node that checked alone and one that checked in a batch would differ.
"""

from __future__ import annotations

import hashlib
import runpy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chainnode import _native
from chainnode._proto import node_pb2, types_pb2
from chainnode.ledger.ledger import block_context
from chainnode.types.codec import encode
from chainnode.types.transaction import Transaction, sender_message
from forks.four_nodes import FourNodes, forged

CURVE = runpy.run_path(str(Path(__file__).parents[1] / "vectors" / "make_zip215.py"))
P, L, D = CURVE["P"], CURVE["L"], CURVE["D"]
Point = tuple[int, int]
EXECUTED = types_pb2.RECEIPT_STATUS_UNKNOWN_CONTRACT
BAD = types_pb2.RECEIPT_STATUS_BAD_ENDORSEMENT


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P) % P
    return x, y


def multiply(scalar: int, point: Point) -> Point:
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def decode(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    y, sign = number % 2**255, number >> 255
    x = CURVE["x_of"](y)
    return (x if x & 1 == sign else P - x), y


BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
ORDER_EIGHT = decode(CURVE["small_order_encodings"]()[4])


@dataclass(frozen=True)
class TorsionSigner:
    """Signs with R = r B + T, T of order eight: valid under ZIP-215, invalid cofactorless."""

    seed: bytes

    def sign(self, data: bytes, /) -> bytes:
        digest = hashlib.sha512(self.seed).digest()
        secret = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        nonce = int.from_bytes(hashlib.sha512(digest[32:] + data).digest(), "little") % L
        x, y = add(multiply(nonce, BASE), ORDER_EIGHT)
        commitment: bytes = (y | (x & 1) << 255).to_bytes(32, "little")
        challenge = int.from_bytes(hashlib.sha512(commitment + public + data).digest(), "little")
        answer: int = (nonce + challenge * secret) % L
        return commitment + answer.to_bytes(32, "little")


def odd(four: FourNodes, salt: int) -> Transaction:
    """A client's transaction whose signature the two kinds of check judge differently."""
    client = four.identity("bank-a/client")
    plain = four.call(salt)
    seed = client.signing_key.private_bytes_raw()
    signature = TorsionSigner(seed).sign(sender_message(plain.tx_id()))
    return replace(plain, signature=signature)


async def test_the_signature_is_one_that_a_cofactorless_check_refuses(four: FourNodes) -> None:
    sent = odd(four, 1)
    client = four.identity("bank-a/client")
    message = sender_message(sent.tx_id())
    with pytest.raises(InvalidSignature):
        client.signing_key.public_key().verify(sent.signature, message)
    assert _native.verify_ed25519(client.public_key, message, sent.signature)


@pytest.mark.parametrize("company", [0, 1, 40], ids=["alone", "two", "in a batch"])
async def test_pool_and_executor_judge_it_alike_alone_and_in_a_batch(
    four: FourNodes, company: int
) -> None:
    sent = odd(four, 1)
    others = [four.call(salt) for salt in range(2, 2 + company)]
    codes = four.submit(*others, sent, to=(0,))[0]
    assert codes == [node_pb2.ADMISSION_ACCEPTED] * (company + 1)
    four.carry(sent, *others, to=(1, 2, 3))
    wids = [sent.wid(), *(item.wid() for item in others)]
    assert {node.pool.verified(wids) for node in four.nodes} == {b"\x01" * len(wids)}
    found = await four.step(*wids)
    assert [receipt.status for receipt in found] == [EXECUTED] * len(wids)
    outcomes = {verified: _executed(four, wids, verified) for verified in (0, 1)}
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("company", [0, 40], ids=["alone", "in a batch"])
async def test_a_wrong_one_beside_it_is_refused_by_pool_and_executor(
    four: FourNodes, company: int
) -> None:
    sent, wrong = odd(four, 1), forged(odd(four, 2))
    others = [four.call(salt) for salt in range(3, 3 + company)]
    codes = four.submit(*others, wrong, sent, to=(0,))[0]
    accepted = node_pb2.ADMISSION_ACCEPTED
    assert codes == [accepted] * company + [node_pb2.ADMISSION_BAD_SIGNATURE, accepted]
    four.carry(wrong, sent, *others)
    wids = [wrong.wid(), sent.wid(), *(item.wid() for item in others)]
    assert {node.pool.verified(wids)[:2] for node in four.nodes} == {b"\x00\x01"}
    found = await four.step(*wids)
    assert [receipt.status for receipt in found] == [BAD] + [EXECUTED] * (company + 1)


def _executed(four: FourNodes, wids: list[bytes], verified: int) -> tuple[list[bytes], bytes]:
    """Block 1 again on an empty executor, its signatures known or not."""
    node = four.nodes[0]
    executor = _native.Executor(four.layout.chain_id)
    executor.genesis(encode(node.genesis))
    logged = node.ledger.block(1)
    assert logged is not None
    header = types_pb2.Block.FromString(logged.block).header
    outcome = executor.execute_block(
        block_context(header), logged.batch, bytes([verified]) * len(wids)
    )
    return outcome.receipts, outcome.state_root
