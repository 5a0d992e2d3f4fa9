"""A running consortium with a published table.

The ceremony and the uploads are made once a session by live processes; every test goes on from
there on a copy of the chain and of the folders, as processes do that are started again.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from consortium import DEEP, Clock, Consortium, Prepared, build, pin_workers, prepare
from local_chain import LocalLedger


@pytest.fixture(autouse=True)
def first_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests know whose chunk 0 is; `pin_workers` again for others."""
    pin_workers(monkeypatch)


@pytest.fixture(scope="session")
def three_of_four(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("three-of-four")
    return asyncio.run(prepare(LocalLedger(), folder))


@pytest.fixture
async def consortium(three_of_four: Prepared, tmp_path: Path) -> AsyncIterator[Consortium]:
    made = three_of_four.begin(tmp_path / "consortium")
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture(scope="session")
def three_of_four_deep(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("three-of-four-deep")
    ledger = LocalLedger(profiles=DEEP)
    return asyncio.run(prepare(ledger, folder, Consortium.publish_deep))


@pytest.fixture
async def deep(three_of_four_deep: Prepared, tmp_path: Path) -> AsyncIterator[Consortium]:
    """A consortium with keys of profile M and a table stored in it."""
    made = three_of_four_deep.begin(tmp_path / "consortium")
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    made = Clock(monkeypatch)
    yield made
    await made.stop()


@pytest.fixture
async def fresh_consortium(tmp_path: Path) -> AsyncIterator[Consortium]:
    """One whose own processes, still running, made the key and the table."""
    made = build(LocalLedger(), tmp_path / "consortium")
    try:
        await made.active()
        await made.publish()
        yield made
    finally:
        await made.stop()
