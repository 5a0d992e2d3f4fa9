"""Queries of one chunk do not all go to the first workers of the council."""

from collections import Counter
from pathlib import Path

import pytest
from consortium import DEADLINE_S, ROWS, Clock, Consortium, pin_workers
from test_replay import passed, replayed

from chainnode.sdk import replay
from chainnode.sdk.replay import Check
from chainnode.sdk.scoring import chunk_workers

COUNT = "SELECT COUNT(*) FROM firms"


async def computed(made: Consortium, index: int) -> set[str]:
    """Who stated a result of a part of the last query."""
    return {
        str(step.fields["organisation"])
        for _, steps in made.ledger.blocks
        for step in steps
        if (step.name, step.fields.get("step")) == ("ChunkStep", "revealed")
        and (step.fields["query"], step.fields["index"]) == (made.bank.last_query, index)
    }


def test_over_all_ids_every_member_computes_as_often() -> None:
    for count in (2, 3, 4, 7, 8):
        members = [f"m{number}" for number in range(count)]
        turns = [chunk_workers(members, bytes(31) + bytes([last]), 0) for last in range(8 * 7 * 3)]
        for place in range(count):
            assert set(Counter(turn[place] for turn in turns).values()) == {8 * 7 * 3 // count}
        assert all(sorted(turn) == members for turn in turns)


@pytest.mark.parametrize(
    ("first", "chunk", "whole"),
    [
        (2, {"registry", "statistics"}, {"statistics", "bank-a"}),
        (255, {"statistics", "bank-a"}, {"bank-a", "guarantor"}),
    ],
)
async def test_the_workers_of_a_query_begin_where_its_id_says(
    consortium: Consortium,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    chunk: set[str],
    whole: set[str],
) -> None:
    pin_workers(monkeypatch, first)
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    assert (await computed(consortium, 0), await computed(consortium, 1)) == (chunk, whole)
    assert await consortium.faults() == set()
    passed(await replayed(consortium, tmp_path))


async def test_who_was_assigned_and_late_is_named_and_the_replay_derives_it(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    pin_workers(monkeypatch, 2)
    clock.jumps(consortium, ("committed", 1, DEADLINE_S))
    crashed = "registry"
    place = list(consortium.workers).index(crashed)
    consortium.tasks[len(consortium.keyholders) + place].cancel()
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    assert await consortium.faults() == {(crashed, "worker gave no result in time")}

    def late(checks: list[Check]) -> set[tuple[str, bool]]:
        return {(check.who, check.matches) for check in checks if check.what == "late workers"}

    report = await replayed(consortium, tmp_path)
    assert late(passed(report)) == {(crashed, True)}
    # By the order of another id the contract would have named somebody who had nothing to do.
    monkeypatch.setattr(replay, "chunk_workers", lambda members, query, index: members)
    assert late(list((await replayed(consortium, tmp_path)).checks)) == {(crashed, False)}
