"""Profile M end to end: the council rotates to its keys, and a product of four factors is asked."""

from pathlib import Path

import duckdb
import pytest
from consortium import Consortium, build
from local_chain import LocalLedger
from test_rotation import rotate

from chainnode.he.answer import number
from chainnode.he.encode import Cell
from chainnode.he.schema import Bins, Column, TableSchema
from chainnode.he.sql import explain
from chainnode.sdk.bank import BankClient
from chainnode.sdk.scoring import make_plan, read_table
from chainnode.types.errors import ClientFault

ROWS = 400
DEEP = ("S", "S36", "M")
IDS = [f"L{row:03d}" for row in range(ROWS)]
CELLS: dict[str, list[Cell]] = {
    "shipdate": [10 * row % 365 for row in range(ROWS)],
    "discount": [row * row % 11 for row in range(ROWS)],
    "quantity": [1 + 7 * row % 50 for row in range(ROWS)],
    "revenue": [row * 99_991 % 1_000_000 for row in range(ROWS)],
}
LINES = TableSchema(
    "lines",
    ROWS,
    "id",
    "registry",
    (
        Column("shipdate", "registry", Bins(0, (90, 300), 365)),
        Column("discount", "statistics", Bins(0, (3, 8), 10)),
        Column("quantity", "bank-a", Bins(1, (24,), 50)),
        Column("revenue", "bank-a", None, 1_000_000),
    ),
)
BY_REGION = """SELECT region, COUNT(*), SUM(revenue) FROM lines
WHERE shipdate >= 90 AND quantity < 24 GROUP BY region"""
OWNERS = ("bank-a", "registry", "statistics")
Q6 = """SELECT COUNT(*), SUM(revenue) FROM lines
WHERE shipdate >= 90 AND shipdate < 300 AND discount BETWEEN 3 AND 7 AND quantity < 24"""


def plaintext(sql: str) -> list[tuple[int, ...]]:
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE lines ({', '.join(f'{name} BIGINT' for name in CELLS)})")
    rows = [tuple(map(int, map(str, row))) for row in zip(*CELLS.values(), strict=True)]
    connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows)
    return connection.execute(sql).fetchall()


async def publish(consortium: Consortium) -> None:
    for owner in OWNERS:
        await consortium.client(owner).publish_columns("lines", CELLS)


async def answer(bank: BankClient, sql: str) -> list[tuple[object, ...]]:
    return [tuple(map(number, row.values)) for row in await bank.query("lines", sql)]


@pytest.mark.timeout(120)
async def test_a_council_rotates_to_profile_m_and_answers_what_needs_it(tmp_path: Path) -> None:
    made = build(LocalLedger(), tmp_path)
    try:
        await made.active()
        deep = LINES.stored_in("M")
        await made.client("registry").create_table(deep, IDS, 10, OWNERS)
        for owner in OWNERS:
            await made.client(owner).grant("lines", "bank-a", 9)
        # Epoch 1 has no key of M: nothing of the table is sent.
        for owner in OWNERS:
            with pytest.raises(ClientFault, match=r"PROFILE_WITHOUT_KEY.*he rotate --profile M"):
                await made.client(owner).publish_columns("lines", CELLS)
        assert await rotate(made, ("bank-a", "guarantor", "registry", "statistics"), 3, DEEP) == 2
        stale = await made.bank.reencryption_plan("lines")
        assert {item.profile for item in stale} == set(DEEP)
        await publish(made)
        assert await made.bank.reencryption_plan("lines") == []
        plan = await made.bank.plan("lines", Q6)
        assert (plan.profile, plan.limbs) == ("M", 7)
        assert "profile   M, 7 limbs, degree 4" in explain(plan)
        assert await answer(made.bank, Q6) == plaintext(Q6)
        # A question that S36 carries is not asked in M.
        shallow = "SELECT COUNT(*), SUM(revenue) FROM lines WHERE quantity < 24"
        assert (await made.bank.plan("lines", shallow)).profile == "S36"
        assert await answer(made.bank, shallow) == plaintext(shallow)
        # The next rotation keeps the profiles, and answers under the old key until all published.
        assert await rotate(made, ("bank-a", "registry", "statistics"), 2, DEEP) == 3
        await made.client("registry").publish_columns("lines", CELLS)
        assert await answer(made.bank, Q6) == plaintext(Q6)
        _, ask = await made.bank.chain.view("query_info", query=made.bank.last_query)
        assert ask["epoch"] == 2
    finally:
        await made.stop()


async def test_a_plan_waits_for_the_columns_of_its_own_profile(tmp_path: Path) -> None:
    """Owners upload S36 before M: meanwhile only questions of S36 are taken."""
    made = build(LocalLedger(profiles=DEEP), tmp_path)
    try:
        await made.active()
        await made.client("registry").create_table(LINES.stored_in("M"), IDS, 10, OWNERS)
        for owner in OWNERS:
            await made.client(owner).grant("lines", "bank-a", 9)
        late = made.client("statistics")
        announce = late._announce

        async def stops_before_m(facts: object, profile: str, *rest: object) -> None:
            if profile != "M":
                await announce(facts, profile, *rest)  # type: ignore[arg-type]

        late._announce = stops_before_m  # type: ignore[method-assign, assignment]
        for owner in ("bank-a", "registry"):
            await made.client(owner).publish_columns("lines", CELLS)
        await late.publish_columns("lines", CELLS)
        with pytest.raises(ClientFault, match=r"no active epoch has the M columns of statistics"):
            await made.bank.query("lines", Q6)
        assert await made.bank.chain.view("budget", table="lines", bank="bank-a") == (9, 0)
        rows = await answer(made.bank, "SELECT COUNT(*) FROM lines WHERE quantity < 24")
        assert rows == plaintext("SELECT COUNT(*) FROM lines WHERE quantity < 24")
    finally:
        await made.stop()


async def test_sums_longer_than_a_blob_are_refused_before_they_are_asked(tmp_path: Path) -> None:
    made = build(LocalLedger(), tmp_path)
    try:
        many = Column("region", "registry", Bins(0, tuple(range(1, 20)), 19))
        wide = TableSchema("lines", ROWS, "id", "registry", (*LINES.columns, many)).stored_in("M")
        await made.client("registry").create_table(wide, IDS, 10, OWNERS)
        facts = await read_table(made.bank.chain, "lines")
        assert make_plan(facts, Q6).profile == "M"
        with pytest.raises(ClientFault, match="PLAN_TOO_LARGE"):
            make_plan(facts, BY_REGION)
    finally:
        await made.stop()
