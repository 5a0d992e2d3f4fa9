"""What befalls a worker's own tiles while it runs: survived, and named where it gave a result."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from consortium import DEADLINE_S, ROWS, Clock, Consortium

from chainnode.worker.worker import Worker

COUNT = "SELECT COUNT(*) FROM firms"
HEADER_BYTES = 4_096
# Chunk 0 belongs to bank-a and guarantor; registry is its reserve.
VICTIM = "guarantor"


async def answered(consortium: Consortium) -> list[tuple[str, str, str]]:
    """Ask, expect the right answer, and give the recorded steps."""
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    return [(step.step, step.organisation, step.detail) for step in steps]


def faults(steps: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(organisation, detail) for step, organisation, detail in steps if step == "fault"]


def tiles(consortium: Consortium) -> Path:
    return consortium.folder / VICTIM / "worker" / "tiles"


def flip(consortium: Consortium) -> None:
    """Change one byte of the file that the worker has mapped, as a rotten disk would."""
    (path,) = tiles(consortium).rglob("presence.0.0.tiles")
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES)
        (byte,) = file.read(1)
        file.seek(HEADER_BYTES)
        file.write(bytes([byte ^ 1]))


def without_scrubbing(worker: Worker) -> None:
    async def nothing() -> None:
        return

    worker.idle = nothing  # type: ignore[method-assign]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_corrupt_chunk_is_outvoted_named_fetched_again_and_right_at_the_next_question(
    consortium: Consortium, capsys: pytest.CaptureFixture[str]
) -> None:
    without_scrubbing(consortium.workers[VICTIM])
    assert faults(await answered(consortium)) == []
    flip(consortium)
    steps = await answered(consortium)
    assert faults(steps) == [(VICTIM, "worker gave a wrong result, shown by contract")]
    # Its own keyholder asked it again, after it had found the damage: it gives its share.
    assert ("refused by a member", VICTIM) not in {(step, name) for step, name, _ in steps}
    said = capsys.readouterr().out
    assert "TILES_DAMAGED" in said and "presence.0.0.tiles" in said
    assert faults(await answered(consortium)) == []


async def test_rot_is_found_while_nothing_is_asked(
    consortium: Consortium, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults(await answered(consortium)) == []
    done = next(tiles(consortium).rglob("complete.list"))
    flip(consortium)
    await until(lambda: not done.exists())
    assert "presence.0.0.tiles" in capsys.readouterr().out
    assert faults(await answered(consortium)) == []
    assert done.exists()


async def test_scrubbing_takes_every_column_in_turn_and_leaves_sound_ones(
    consortium: Consortium,
) -> None:
    await answered(consortium)
    await consortium.bank.query("firms", "SELECT SUM(turnover) FROM firms WHERE sector = 'trade'")
    await consortium.stop()
    store = consortium.workers[VICTIM]._tiles
    opened = {(folder, name) for folder, made in store._opened.items() for name in made.columns}
    assert len({folder for folder, _ in opened}) == 2 and len(opened) > 2
    marks = {path: path.stat().st_mtime_ns for path in tiles(consortium).rglob("complete.list")}
    seen = []
    for _ in range(2 * len(opened)):
        await consortium.workers[VICTIM].idle()
        seen.append(store._scrubbed)
    assert set(seen[: len(opened)]) == opened and seen[len(opened) :] == seen[: len(opened)]
    assert {path: path.stat().st_mtime_ns for path in marks} == marks


async def test_a_lost_store_is_fetched_again(consortium: Consortium) -> None:
    assert faults(await answered(consortium)) == []
    shutil.rmtree(tiles(consortium))
    assert faults(await answered(consortium)) == []
    assert list(tiles(consortium).rglob("presence.0.0.tiles"))


async def test_a_crashed_worker_is_named_and_replaced(consortium: Consortium, clock: Clock) -> None:
    clock.jumps(consortium, ("committed", 1, DEADLINE_S), ("committed", 3, DEADLINE_S))
    place = list(consortium.workers).index(VICTIM)
    consortium.tasks[len(consortium.keyholders) + place].cancel()
    # Of the chunk and of the reduction.
    assert set(faults(await answered(consortium))) == {
        (VICTIM, "worker gave no result in time, shown by contract")
    }
