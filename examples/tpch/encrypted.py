"""Planning, encrypting, computing and releasing one query, and comparing it with DuckDB."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import duckdb

from chainnode._native import HeColumns
from chainnode.he.answer import Row, number
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine, validate_result
from chainnode.he.plan import Plan
from chainnode.he.profiles import ProfileName
from chainnode.he.results import assemble
from chainnode.he.schema import TableSchema
from chainnode.he.sql import Catalog, Policy, plan_query
from chainnode.testing.he_council import Council
from examples.tpch import queries

Answer = list[tuple[str | Fraction | None, ...]]


class Outcome(NamedTuple):
    """One query's plan, rows and seconds; encryption is not counted."""

    plan: Plan
    rows: list[Row]
    seconds: float


def plans(schema: TableSchema) -> dict[str, Plan]:
    """The four plans. TPC-H has no private persons: every group is released."""
    catalog = Catalog(schema, {}, Policy(minimum_group_size=0))
    return {name: plan_query(sql, catalog) for name, sql in queries.QUERIES.items()}


class Store:
    """The columns that the plans read, encrypted under a council's key of each profile."""

    def __init__(
        self,
        folder: Path,
        schema: TableSchema,
        cells: Mapping[str, Sequence[Cell]],
        planned: Mapping[str, Plan],
    ) -> None:
        self._councils: dict[ProfileName, Council] = {}
        self._columns: dict[ProfileName, HeColumns] = {}
        for profile in sorted({plan.profile for plan in planned.values()}):
            read = {
                name
                for plan in planned.values()
                if plan.profile == profile
                for name in plan.columns()
            }
            council = Council(profile)
            self._councils[profile] = council
            self._columns[profile] = council.encrypt_table(folder / profile, schema, cells, read)

    def answer(self, plan: Plan, threads: int = 1) -> Outcome:
        """Compute a plan and have the council release it."""
        started = time.monotonic()
        council, engine = self._councils[plan.profile], LocalEngine(threads)
        columns = self._columns[plan.profile]
        chunks = [
            engine.run_chunk(plan, index, columns, (), b"tpch") for index in range(len(plan.chunks))
        ]
        result = validate_result(plan, engine.reduce(plan, chunks, council.relin_key))
        rows = assemble(plan, council.open_scalars(plan, result))
        return Outcome(plan, rows, time.monotonic() - started)


def exact(rows: Sequence[Row]) -> Answer:
    """Released rows as texts and fractions."""
    return [
        tuple(value if isinstance(value, str) else number(value) for value in row.values)
        for row in rows
    ]


def plaintext(connection: duckdb.DuckDBPyConnection, name: str) -> Answer:
    """DuckDB's answer, its averages and quotients divided exactly."""
    rows = [
        tuple(value if isinstance(value, str) else _fraction(value) for value in row)
        for row in connection.execute(queries.plain(name)).fetchall()
    ]
    if name == "Q14":
        return [(_quotient(row[0], row[1], 100),) for row in rows]
    if name == "Q1":
        return [
            (*row[:6], *(_quotient(total, row[9]) for total in row[6:9]), row[9]) for row in rows
        ]
    return rows


def _fraction(value: object) -> Fraction | None:
    return None if value is None else Fraction(str(value))


def _quotient(
    total: str | Fraction | None, count: str | Fraction | None, times: int = 1
) -> Fraction | None:
    if not isinstance(total, Fraction) or not isinstance(count, Fraction) or count == 0:
        return None
    return times * total / count
