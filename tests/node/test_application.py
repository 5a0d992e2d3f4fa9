"""What a node builds and what it refuses to vote for, judged on real nodes without processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from chainnode._proto import types_pb2
from chainnode.consensus.interface import BuildProposal, ValidateBlock
from chainnode.identity import load_identity
from chainnode.node.composition import Node
from chainnode.node.config import load_config
from chainnode.node.testnet import TestnetLayout, prepare
from chainnode.types.block import Block
from chainnode.types.codec import encode, merkle_root
from chainnode.types.transaction import Payload, PayloadKind
from chainnode.types.vote import CommitCertificate


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[TestnetLayout, Node, Node]]:
    """A proposer and a judge of one chain, neither of them started."""
    layout = prepare(tmp_path / "testnet")
    nodes = [Node(load_config(place.config)) for place in layout.nodes[:2]]
    yield layout, nodes[0], nodes[1]
    for node in nodes:
        await node.close()


def request(node: Node) -> BuildProposal:
    """What the consensus engine asks of a proposer at the next height."""
    state = node.tip.state()
    return BuildProposal(
        height=state.height,
        round=0,
        previous_hash=state.previous_hash,
        timestamp_ms=state.previous_time_ms,
        proposer=node.identity.address,
        engine="tbft",
        engine_epoch=0,
        validators_hash=state.validators.hash(),
        next_validators_hash=state.next_validators.hash(),
        last_commit=CommitCertificate.empty(),
        evidence=(),
    )


def transaction(layout: TestnetLayout, salt: int) -> bytes:
    client = load_identity(layout.identities["bank-a/client"])
    payload = Payload(
        chain_id=layout.chain_id,
        kind=PayloadKind.INVOKE,
        contract="nothing",
        method="f",
        args=b"",
        sender=client.public_key,
        expiry_height=100,
        salt=salt.to_bytes(16, "big"),
    )
    return payload.sign(client).encode()


def batch(*transactions: bytes) -> bytes:
    return encode(types_pb2.TransactionBatch(transactions=transactions))


async def judged(node: Node, block: Block) -> tuple[bool, str]:
    verdict = await node.application.validate(ValidateBlock(block, bytes(32)))
    return verdict.valid, verdict.reason


async def test_a_correct_block_is_accepted_and_its_body_is_kept_first(
    pair: tuple[TestnetLayout, Node, Node],
) -> None:
    layout, proposer, judge = pair
    for node in (proposer, judge):
        node.pool.add(batch(transaction(layout, 1)), 0)
    block = await proposer.application.build(request(proposer))
    assert len(block.wids) == 1
    assert not judge.ledger.log.holds_body(1, block.hash())
    assert await judged(judge, block) == (True, "")
    assert judge.ledger.log.holds_body(1, block.hash())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("exec_height", 1),
        ("state_root", bytes(32)),
        ("receipts_root", bytes(32)),
        ("results_accumulator", bytes(32)),
        ("chain_id", "another"),
    ],
)
async def test_a_wrong_header_field_is_refused(
    pair: tuple[TestnetLayout, Node, Node], field: str, value: object
) -> None:
    _, proposer, judge = pair
    block = await proposer.application.build(request(proposer))
    wrong = replace(block, header=replace(block.header, **{field: value}))
    assert await judged(judge, wrong) == (False, f"header field {field} is wrong")
    assert not judge.ledger.log.holds_body(1, wrong.hash())


@pytest.mark.parametrize("field", ["block_tx_cap", "block_interval_ms", "policy_version"])
async def test_another_shape_than_the_selector_decides_is_refused(
    pair: tuple[TestnetLayout, Node, Node], field: str
) -> None:
    _, proposer, judge = pair
    block = await proposer.application.build(request(proposer))
    shape = block.header.architecture
    other = replace(shape, **{field: getattr(shape, field) + 1})
    wrong = replace(block, header=replace(block.header, architecture=other))
    assert await judged(judge, wrong) == (False, "header field architecture is wrong")


async def test_more_transactions_than_the_cap_are_refused(
    pair: tuple[TestnetLayout, Node, Node],
) -> None:
    _, proposer, judge = pair
    block = await proposer.application.build(request(proposer))
    wids = tuple(bytes([1]) + number.to_bytes(31, "big") for number in range(101))
    header = replace(block.header, tx_root=merkle_root(wids), tx_count=101)
    assert block.header.architecture.block_tx_cap == 100
    assert await judged(judge, replace(block, header=header, wids=wids)) == (
        False,
        "header field tx_count is wrong",
    )


async def test_a_block_with_missing_bodies_is_judged_once_they_arrive(
    pair: tuple[TestnetLayout, Node, Node],
) -> None:
    layout, proposer, judge = pair
    body = batch(transaction(layout, 1))
    proposer.pool.add(body, 0)
    block = await proposer.application.build(request(proposer))
    judging = asyncio.create_task(judged(judge, block))
    done, _ = await asyncio.wait({judging}, timeout=0.1)
    assert not done
    await judge.admission.bodies(body, list(block.wids))
    assert await judging == (True, "")
