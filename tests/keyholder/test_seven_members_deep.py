"""Five of seven with keys of profile M: a product of four factors opens, two members silent."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from consortium import DEEP, Consortium, build
from local_chain import LocalLedger
from test_deep_queries import CELLS, IDS, LINES, OWNERS, Q6, answer, plaintext
from test_lying_ceremony import HONEST, Keys, altered, ended, lie_as
from test_seven_members import SEVEN, SILENT

from chainnode.he import key_vectors
from chainnode.he.council import Ceremony, PieceSecret
from chainnode.he.threshold import Sharing
from chainnode.types.limits import (
    BLOB_SIZE_MAX_BYTES,
    CONTRACT_EVENT_SIZE_MAX_BYTES,
    CONTRACT_VALUE_SIZE_MAX_BYTES,
)

LIAR = "guarantor"
THRESHOLD = 5
PLACE_OF_LAST_PROOF = 7
"""In a first part: three key shares, two of relinearisation, then the proofs of S, S36 and M."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def seven(folder: Path, profiles: tuple[str, ...] = DEEP) -> Consortium:
    # Twenty-one services share one process: only a silent keyholder is to miss a deadline.
    deadlines = {"chunk_deadline_ms": 120_000, "share_deadline_ms": 20_000}
    ledger = LocalLedger(threshold=THRESHOLD, organisations=SEVEN, profiles=profiles, **deadlines)
    made = build(ledger, folder)
    made.bank._timeout_s = 240
    return made


@pytest.fixture
async def beginning(tmp_path: Path) -> AsyncIterator[Consortium]:
    """Seven organisations whose ceremony, with profile M, has not begun."""
    made = seven(tmp_path)
    try:
        yield made
    finally:
        await made.stop()


async def test_a_product_of_four_is_opened_by_five_of_seven(beginning: Consortium) -> None:
    made, ledger = beginning, beginning.ledger
    steps = await ended(made)
    assert steps[-1]["step"] == "active"
    assert {str(step["organisation"]) for step in steps if step["step"] == "verdict"} == set(SEVEN)
    # What the ceremony leaves fits its places: blobs beside the chain, values and events on it.
    parts = sorted(map(len, ledger.blobs.values()), reverse=True)[
        : len(Sharing.of(SEVEN, 5).pieces)
    ]
    assert len(parts) == 35
    assert BLOB_SIZE_MAX_BYTES / 4 < parts[-1] <= parts[0] < BLOB_SIZE_MAX_BYTES / 3
    assert max(map(len, ledger.deployed.storage.values())) < CONTRACT_VALUE_SIZE_MAX_BYTES / 32
    events = [len(event.data) for receipt in ledger.receipts for event in receipt.events]
    assert max(events) < CONTRACT_EVENT_SIZE_MAX_BYTES / 32
    await made.client("registry").create_table(LINES.stored_in("M"), IDS, 10, OWNERS)
    for owner in OWNERS:
        client = made.client(owner)
        await client.publish_columns("lines", CELLS)
        await client.grant("lines", "bank-a", 5)
    for task, name in zip(made.tasks, made.keyholders, strict=False):
        if name in SILENT:
            task.cancel()
    plan = await made.bank.plan("lines", Q6)
    assert (plan.profile, plan.limbs) == ("M", 7)
    assert await answer(made.bank, Q6) == plaintext(Q6)
    assert await made.faults() == {(name, "no share") for name in SILENT}


async def test_one_of_seven_that_proves_nothing_in_m_is_named(
    beginning: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flipped(own: Ceremony, index: int, piece: PieceSecret, keys: Keys) -> bytes:
        part = HONEST(own, index, piece, keys)
        return altered(part, PLACE_OF_LAST_PROOF, lambda proof: proof[:-1] + bytes([proof[-1] ^ 1]))

    lie_as(monkeypatch, LIAR, flipped)
    steps = await ended(beginning)
    assert str(steps[-1]["step"]).startswith(f"failed: {LIAR}: {LIAR} has not proven")
    assert " in M: " in str(steps[-1]["step"])
    assert "keys" not in {step["step"] for step in steps}


async def test_one_of_seven_that_shares_with_another_key_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is proven; what it does with the test vectors is not what it dealt."""
    made = seven(tmp_path, ("S", "S36"))
    honest, mine = key_vectors.share_of_vectors, set(Sharing.of(SEVEN, THRESHOLD).held_by(LIAR))

    def strange(vectors: Any, held: Any, epoch: int, sharing: Sharing) -> bytes:
        first = min(held)
        stranger = PieceSecret.draw(("S", "S36"))
        lies = set(held) == mine
        return honest(vectors, {**held, first: stranger} if lies else held, epoch, sharing)

    monkeypatch.setattr(key_vectors, "share_of_vectors", strange)
    try:
        steps = await ended(made)
    finally:
        await made.stop()
    assert str(steps[-1]["step"]).startswith("failed: ")
    assert f"the guilty member is {LIAR}" in str(steps[-1]["step"])
