"""Five of seven: thirty-five pieces of the key, two members silent, one worker wrong."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from consortium import (
    IDS,
    MODEL,
    OWNERS,
    ROWS,
    SECTOR,
    TURNOVER,
    Consortium,
    plain_score,
    prepare,
)
from local_chain import ORGANISATIONS, LocalLedger
from test_replay import lie

from chainnode.sdk.scoring import read_sharing, results_needed
from chainnode.types.errors import ClientFault

SEVEN = (*ORGANISATIONS, "customs", "insurer", "telecom")
LIAR = "guarantor"
SILENT = ("registry", "telecom")
SUM = "SELECT COUNT(*), SUM(turnover) FROM firms"
FILTERED = "SELECT SUM(turnover) FROM firms WHERE sector = 'trade'"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
async def five_of_seven(tmp_path: Path) -> AsyncIterator[Consortium]:
    # Twenty-one services share one process: deadlines under which the honest ones stay on time.
    deadlines = {"chunk_deadline_ms": 5_000, "share_deadline_ms": 10_000}
    ledger = LocalLedger(threshold=5, organisations=SEVEN, **deadlines)
    made = (await prepare(ledger, tmp_path / "before")).begin(tmp_path / "consortium")
    try:
        yield made
    finally:
        await made.stop()


def revealed(made: Consortium) -> dict[str, bytes]:
    """Results of the first chunk by who stated them."""
    return {
        str(step.fields["organisation"]): step.fields["value"]
        for _, steps in made.ledger.blocks
        for step in steps
        if step.name == "ChunkStep"
        and (step.fields["query"], step.fields["index"]) == (made.bank.last_query, 0)
        and step.fields["step"] == "revealed"
    }


def wait_for_the_liar(made: Consortium) -> None:
    """Who needs not state its result any more is named late, not wrong: let the liar come first."""
    honest = made.workers["bank-a"].attempt

    async def patient(method: str, **kwargs: Any) -> bool:
        while (method, kwargs.get("index")) == ("chunk_reveal", 0) and LIAR not in revealed(made):
            await asyncio.sleep(0.02)
        return await honest(method, **kwargs)

    made.workers["bank-a"].attempt = patient  # type: ignore[method-assign]


async def test_five_of_seven_answer_exactly_and_name_who_lied_and_who_was_silent(
    five_of_seven: Consortium,
) -> None:
    made = five_of_seven
    sharing = await read_sharing(made.bank.chain, 1)
    assert len(sharing.pieces) == math.comb(7, 3) == 35
    assert {len(sharing.held_by(name)) for name in SEVEN} == {15}
    assert results_needed(len(SEVEN)) == 3
    for owner in OWNERS:
        await made.client(owner).set_consent("firms", "bank-a", IDS[:40])
    lie(made, LIAR)
    wait_for_the_liar(made)
    made.keyholders[LIAR]._recompute = made.workers["bank-a"].recompute
    services = [*made.keyholders, *made.workers]
    for task, name in zip(made.tasks, services, strict=True):
        if name in SILENT:
            task.cancel()
    named = {
        (LIAR, "worker gave a wrong result"),
        ("registry", "worker gave no result in time"),
        *((name, "no share") for name in SILENT),
    }
    rows = await made.bank.query("firms", SUM)
    assert [row.values for row in rows] == [(ROWS, sum(int(str(cell)) for cell in TURNOVER))]
    assert await made.faults() >= named
    assert {who for who, _ in await made.faults()} == {LIAR, *SILENT}
    _, right = await made.bank.chain.view("chunk_info", query=made.bank.last_query, index=0)
    stated = {who: value == right for who, value in revealed(made).items()}
    assert stated == {LIAR: False, "bank-a": True, "statistics": True, "customs": True}
    found = await made.bank.score("firms", MODEL.name)
    assert found == {IDS[row]: plain_score(row) for row in range(40)}
    assert await made.faults() >= named
    # One product is more than flooding with 35 pieces hides in S36; what to do is said.
    rows = await made.bank.query("firms", "SELECT COUNT(*) FROM firms WHERE sector = 'trade'")
    assert [row.values for row in rows] == [(SECTOR.count("trade"),)]
    with pytest.raises(ClientFault, match=r"PLAN_TOO_DEEP.*profile M"):
        await made.bank.query("firms", FILTERED)
