"""Plans evaluated on plaintext slots equal DuckDB on the same rows, for fixed and random SQL.

This checks planner and encodings apart from encryption, so it can afford many queries.
"""

import random
from fractions import Fraction

import duckdb
import pytest
from he_portfolio import PlainColumns

from chainnode.he.results import Average, assemble
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import ClientFault

Answers = dict[object, tuple[object, ...]]

ATOMS = {
    "sector": (
        "sector = 'trade'",
        "sector <> 'trade'",
        "sector IN ('farming', 'services')",
        "NOT sector IN ('farming')",
    ),
    "region": ("region = '1'", "region <> '1'"),
    "overdue": (
        "overdue < 3",
        "overdue >= 6",
        "overdue BETWEEN 1 AND 5",
        "overdue <> 0",
        "overdue NOT BETWEEN 1 AND 2",
        "overdue IN (0)",
    ),
    "ratio": ("ratio < 0.5", "ratio >= 0", "ratio <= 1.24", "ratio BETWEEN 0.00 AND 0.49"),
    "staff": ("staff < 50", "4 < staff", "staff <= 20000"),
}


def from_rows(catalog: Catalog, plain: PlainColumns, sql: str) -> Answers:
    plan = plan_query(sql, catalog)
    answers: Answers = {}
    for label, row in zip(plan.aggregate.groups, assemble(plan, plain.residues(plan)), strict=True):
        if not row.refused:
            shown = [value.exact() if isinstance(value, Average) else value for value in row.values]
            answers["NULL" if None in label else ", ".join(label)] = tuple(shown)
    return answers


def from_database(
    database: duckdb.DuckDBPyConnection, sql: str, group: str, minimum: int
) -> Answers:
    """DuckDB's rows with exact averages, small groups left out."""
    exact = sql.replace("AVG(turnover)", "{'total': SUM(turnover), 'count': COUNT(*)}")
    body = exact.partition(" FROM ")
    key = f"COALESCE({group}, 'NULL')" if group else "''"
    rows = database.execute(f"{body[0]}, COUNT(*), {key} FROM {body[2]}").fetchall()
    answers: Answers = {}
    for *values, count, label in rows:
        if count >= minimum:
            shown = [
                Fraction(int(value["total"]), int(value["count"]))
                if isinstance(value, dict)
                else value
                for value in values
            ]
            answers[label] = tuple(shown)
    return answers


def random_predicate(source: random.Random, features: list[str], depth: int) -> str:
    if depth == 0 or source.random() < 0.3:
        return source.choice(ATOMS[source.choice(features)])
    parts = [random_predicate(source, features, depth - 1) for _ in range(source.randint(2, 3))]
    text = "(" + f" {source.choice(['AND', 'OR'])} ".join(parts) + ")"
    return f"NOT {text}" if source.random() < 0.3 else text


def agree(
    catalog: Catalog,
    plain: PlainColumns,
    database: duckdb.DuckDBPyConnection,
    sql: str,
    group: str = "",
) -> None:
    expected = from_database(database, sql, group, catalog.policy.minimum_group_size)
    assert from_rows(catalog, plain, sql) == expected


@pytest.mark.parametrize(
    ("sql", "group"),
    [
        ("SELECT COUNT(*), SUM(turnover), AVG(turnover) FROM firms", ""),
        ("SELECT SUM(debt), SUM(turnover - 3 * staff) FROM firms WHERE overdue < 3", ""),
        ("SELECT sector, COUNT(*), AVG(turnover) FROM firms GROUP BY sector", "sector"),
        ("SELECT region, SUM(debt) FROM firms GROUP BY region", "region"),
        ("SELECT sector, COUNT(*) FROM firms WHERE ratio < 0.5 GROUP BY sector", "sector"),
    ],
)
def test_fixed_queries_equal_the_database(
    sql: str,
    group: str,
    catalog: Catalog,
    plain: PlainColumns,
    database: duckdb.DuckDBPyConnection,
) -> None:
    agree(catalog, plain, database, sql, group)


@pytest.mark.parametrize("seed", range(40))
def test_random_conditions_equal_the_database(
    seed: int, catalog: Catalog, plain: PlainColumns, database: duckdb.DuckDBPyConnection
) -> None:
    source = random.Random(seed)
    compared = 0
    for _ in range(12):
        features = source.sample(sorted(ATOMS), source.randint(1, 2))
        where = random_predicate(source, features, 3)
        selected = "COUNT(*)" if len(features) == 2 else "COUNT(*), AVG(turnover), SUM(debt)"
        sql = f"SELECT {selected} FROM firms WHERE {where}"
        try:
            plan_query(sql, catalog)
        except ClientFault as error:
            assert "can never be true" in error.message, sql
            continue
        agree(catalog, plain, database, sql)
        compared += 1
    assert compared >= 6


@pytest.mark.parametrize("seed", range(20))
def test_three_columns_are_too_deep_or_cancel_exactly(
    seed: int, catalog: Catalog, plain: PlainColumns, database: duckdb.DuckDBPyConnection
) -> None:
    source = random.Random(1_000 + seed)
    for _ in range(6):
        where = random_predicate(source, source.sample(sorted(ATOMS), 3), 2)
        sql = f"SELECT COUNT(*) FROM firms WHERE {where}"
        try:
            plan_query(sql, catalog)
        except ClientFault as error:
            assert error.code == "PLAN_TOO_DEEP" or "never be true" in error.message, sql
            continue
        agree(catalog, plain, database, sql)
