"""What a query reads is fixed when it is submitted, whatever owners publish while it runs."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from consortium import (
    IDS,
    MODEL,
    OVERDUE,
    OWNERS,
    ROWS,
    SECTOR,
    TURNOVER,
    Consortium,
    plain_score,
)

from chainnode.he.encode import Cell
from chainnode.sdk.audits import UnauditedColumns
from chainnode.sdk.bank import InputFault
from chainnode.sdk.columns import read_columns
from chainnode.sdk.manifests import manifest_root
from chainnode.sdk.scoring import read_table
from chainnode.worker.worker import Job

SUM = "SELECT SUM(turnover) FROM firms WHERE sector = 'trade'"
CELLS: dict[str, list[Cell]] = {"sector": SECTOR, "overdue": OVERDUE, "turnover": TURNOVER}


def change_between_workers(consortium: Consortium, change: Callable[[], Awaitable[None]]) -> None:
    """The first worker computes and commits, then owners change things, then the others compute."""
    changed = asyncio.Event()
    first = consortium.workers["bank-a"]
    attempt = first.attempt

    async def commit_then_change(method: str, **kwargs: object) -> bool:
        done = await attempt(method, **kwargs)
        if method == "chunk_commit" and not changed.is_set():
            await change()
            changed.set()
        return done

    first.attempt = commit_then_change  # type: ignore[method-assign]
    for name, worker in consortium.workers.items():
        if name != "bank-a":
            wait_for(worker, changed)


def wait_for(worker: object, changed: asyncio.Event) -> None:
    honest = worker._chunk  # type: ignore[attr-defined]

    async def later(job: Job, index: int) -> bytes:
        if index == 0:
            await changed.wait()
        return bytes(await honest(job, index))

    worker._chunk = later  # type: ignore[attr-defined]


async def split(consortium: Consortium) -> set[tuple[str, str]]:
    """What the chain recorded of honest services that disagreed; that one is slow is no matter."""
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    return {
        (step.step, step.detail)
        for step in steps
        if step.step in ("reserve: results differ", "refused by a member")
        or (step.step == "fault" and "wrong" in step.detail)
    }


async def test_consent_withdrawn_in_mid_query_counts_from_the_next_query_on(
    consortium: Consortium,
) -> None:
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:40])

    async def withdraw() -> None:
        await consortium.client("registry").set_consent("firms", "bank-a", IDS[:5])

    change_between_workers(consortium, withdraw)
    scores = await consortium.bank.score("firms", MODEL.name)
    assert scores == {IDS[row]: plain_score(row) for row in range(40)}
    assert await split(consortium) == set()
    scores = await consortium.bank.score("firms", MODEL.name)
    assert scores == {IDS[row]: plain_score(row) for row in range(5)}


async def test_audits_required_in_mid_query_count_from_the_next_query_on(
    consortium: Consortium,
) -> None:
    async def require() -> None:
        await consortium.client("registry").require_audits("firms")

    change_between_workers(consortium, require)
    trade = sum(int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade")
    rows = await consortium.bank.query("firms", SUM)
    assert [row.values for row in rows] == [(trade,)]
    assert await split(consortium) == set()
    with pytest.raises(UnauditedColumns):
        await consortium.bank.query("firms", SUM)


async def test_columns_published_in_mid_query_are_read_from_the_next_query_on(
    consortium: Consortium,
) -> None:
    doubled: list[Cell] = [2 * int(str(value)) for value in TURNOVER]

    async def publish() -> None:
        await consortium.client("statistics").publish_columns(
            "firms", CELLS | {"turnover": doubled}
        )

    change_between_workers(consortium, publish)
    trade = sum(int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade")
    rows = await consortium.bank.query("firms", SUM)
    assert [row.values for row in rows] == [(trade,)]
    assert await split(consortium) == set()
    rows = await consortium.bank.query("firms", SUM)
    assert [row.values for row in rows] == [(2 * trade,)]


async def test_pinned_columns_that_are_gone_end_the_query_naming_their_owner(
    consortium: Consortium,
) -> None:
    owner = consortium.client("statistics")
    facts = await read_table(owner.chain, "firms")
    before = await read_columns(owner.chain, facts, "S36", "statistics", 1)

    async def publish_and_lose() -> None:
        await owner.publish_columns("firms", CELLS)
        for digest in before.columns["turnover"]:
            del consortium.ledger.blobs[digest]

    change_between_workers(consortium, publish_and_lose)
    with pytest.raises(InputFault, match="ask again: a new query reads") as refused:
        await consortium.bank.query("firms", SUM)
    fault = refused.value
    assert (fault.code, fault.owner) == ("COLUMNS_REPLACED", "statistics")
    assert fault.root == manifest_root(before.columns)
    rows = await consortium.bank.query("firms", SUM)
    assert len(rows) == 1


async def test_a_keyholder_gives_no_share_on_other_inputs_than_the_proof_binds(
    consortium: Consortium,
) -> None:
    """Its node states another consent than the query was finalised on: it asks for another node."""
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:40])
    everyone = await consortium.bank.chain.put_blob(b"\xff" * ((ROWS + 7) // 8))
    victim = consortium.keyholders["guarantor"]
    honest = victim.chain.view

    async def lying(method: str, **kwargs: object) -> object:
        answer = await honest(method, **kwargs)
        if method == "query_inputs":
            return answer[0], [part | {"consent": everyone} for part in answer[1]]
        return answer

    victim.chain.view = lying  # type: ignore[method-assign]
    complaints: list[str] = []
    victim.complain = lambda _, error: complaints.append(error.code)  # type: ignore[method-assign]
    scores = await consortium.bank.score("firms", MODEL.name)
    assert set(scores) == set(IDS[:40])
    assert "RESULT_NOT_FINALISED" in complaints
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    assert ("share", "guarantor") not in {(step.step, step.organisation) for step in steps}
