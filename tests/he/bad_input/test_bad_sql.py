"""SQL that must not plan, and SQL cut and grafted by machine that must not be answered wrongly."""

import random
from pathlib import Path

import duckdb
import pytest
import sqlglot
from against_duckdb import SlotEngine, catalog_of
from random_queries import Queries
from random_tables import random_table
from sqlglot import exp

from chainnode.he.answer import number
from chainnode.he.engine import assemble
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import ClientFault

LINES = Path(__file__).with_name("sql.txt").read_text(encoding="utf-8").splitlines()
CASES = [tuple(line.split("|", 1)) for line in LINES if line and not line.startswith("#")]


@pytest.mark.parametrize(("code", "sql"), CASES)
def test_what_must_not_plan_is_refused_with_its_reason(
    code: str, sql: str, catalog: Catalog
) -> None:
    with pytest.raises(ClientFault) as caught:
        plan_query(sql, catalog)
    assert caught.value.code == code, caught.value.message
    assert caught.value.message and caught.value.fix


def grafted(source: random.Random, texts: list[str]) -> str:
    """A query with a few nodes replaced by nodes of other queries, or dropped."""
    tree = sqlglot.parse_one(source.choice(texts), read="duckdb")
    for _ in range(source.randint(1, 3)):
        donor = sqlglot.parse_one(source.choice(texts), read="duckdb")
        places = [node for node in tree.walk() if node.parent is not None]
        gifts = list(donor.walk())
        place = source.choice(places)
        kin = [gift for gift in gifts if isinstance(gift, type(place))]
        gift = source.choice(kin if kin and source.random() < 0.7 else gifts)
        if source.random() < 0.1:
            place.pop()
        else:
            place.replace(gift.copy())
    return tree.sql(dialect="duckdb")


@pytest.mark.parametrize("seed", range(12))
def test_grafted_queries_are_refused_or_answered_as_duckdb_answers(seed: int) -> None:
    source = random.Random(f"graft/{seed}")
    table = random_table(source, 60, deep=seed % 2 == 0)
    engine, database, catalog = SlotEngine(table), table.load(), catalog_of(table)
    queries = Queries(source, table)
    texts = [queries.query().sql for _ in range(30)]
    planned = 0
    for _ in range(60):
        try:
            sql = grafted(source, texts)
        except (KeyError, IndexError, ValueError, AttributeError):
            # sqlglot has no text for a tree cut in a place it needs.
            continue
        try:
            plan = plan_query(sql, catalog)
        except ClientFault as error:
            assert error.code.startswith(("SQL_", "PLAN_", "POLICY_")), sql
            continue
        rows = assemble(plan, engine.open(plan))
        if "BAND(" in sql.upper():
            continue
        ours = [tuple(map(_plain, row.values)) for row in rows]
        try:
            theirs = database.execute(sql).fetchall()
        except (
            duckdb.OutOfRangeException,
            duckdb.BinderException,
            duckdb.ParserException,
        ) as error:
            # sqlglot reads `FROM t*` as PostgreSQL does, as t; DuckDB does not know it.
            known = ("Ambiguous", "ut of range", 'at or near "*"')
            assert any(part in str(error) for part in known), sql
            continue
        shown = [tuple(map(_plain, row)) for row in theirs]
        assert len(ours) == len(shown), sql
        if "LIMIT" not in sql:
            pairs = zip(sorted(ours, key=str), sorted(shown, key=str), strict=True)
            assert all(_same(left, right) for left, right in pairs), (sql, ours, shown)
        planned += 1
    assert planned >= 1


def _plain(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return round(value, 6) if value == value and abs(value) != float("inf") else None
    found = number(value) if not hasattr(value, "isoformat") else None
    return str(value) if found is None else round(float(found), 6)


def _same(left: tuple[object, ...], right: tuple[object, ...]) -> bool:
    return all(
        a == b
        or (
            isinstance(a, float)
            and isinstance(b, float)
            and a == pytest.approx(b, rel=1e-9, abs=2e-6)
        )
        or (isinstance(a, str) and isinstance(b, float) and float(a) == b)
        for a, b in zip(left, right, strict=True)
    )


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 250
    assert exp.Select is type(sqlglot.parse_one("SELECT 1"))
