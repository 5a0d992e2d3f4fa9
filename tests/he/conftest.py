"""A small portfolio of firms, its public facts, and the answers of plain arithmetic."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

import duckdb
import numpy as np
import pytest
from he_portfolio import PlainColumns, write_csv

from chainnode.he.encode import Cell
from chainnode.he.schema import EPOCH_DAY, Bins, Column, Digits, Joint, OneHot, TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.he.sql import Catalog, Policy

ROWS = 9_000
SECTORS = ("farming", "trade", "services")


@pytest.fixture(scope="session")
def schema() -> TableSchema:
    table = TableSchema(
        "firms",
        ROWS,
        "id",
        "registry",
        (
            Column("sector", "registry", OneHot(SECTORS, missing=True)),
            Column("region", "registry", OneHot(("1", "2"))),
            Column("overdue", "bank-a", Bins(0, (1, 3, 6), 120)),
            Column("ratio", "bank-a", Bins(-100, (0, 50, 125), 1000, decimals=2, missing=True)),
            Column("staff", "statistics", Bins(0, (5, 50), 9_999), 9_999),
            Column("turnover", "statistics", None, 5_000_000),
            Column("debt", "bank-a", None, 40_000_000, value_limb_bits=16),
            Column("court", "registry", OneHot(("no", "yes")), profiles=("S",)),
            Column("age", "bank-a", Digits(0, 999, 5, missing=True), 999),
            Column("founded", "bank-a", Bins(10_957, (14_610, 18_262), 20_088, dates=True)),
            Column("lenders", "bank-a", Bins(0, (1, 2, 3), 3)),
            Column("courts", "bank-a", Bins(0, (1, 2), 2)),
            Column("price", "bank-a", None, 99_999, value_decimals=2),
            Column("discount", "bank-a", None, 10, value_decimals=2),
            Column(
                "paid",
                "bank-a",
                None,
                9_999_900,
                value_limb_bits=16,
                value_decimals=4,
                derived="price * (1 - discount)",
            ),
        ),
        (Joint("place", "registry", ("sector", "region")),),
    )
    table.validate()
    return table


@pytest.fixture(scope="session")
def model(schema: TableSchema) -> Scorecard:
    card = Scorecard(
        "m1",
        "firms",
        schema.hash().hex(),
        500,
        (
            FeaturePoints("sector", (12, -7, 0), 3),
            FeaturePoints("overdue", (40, 5, -30, -90)),
            FeaturePoints("ratio", (-20, -4, 11, 25), -9),
            FeaturePoints("court", (6, -120)),
        ),
    )
    card.validate(schema)
    return card


@pytest.fixture(scope="session")
def catalog(schema: TableSchema, model: Scorecard) -> Catalog:
    return Catalog(schema, {"m1": model}, Policy(minimum_group_size=5, outputs_max=24))


@pytest.fixture(scope="session")
def firms() -> dict[str, list[Cell]]:
    """Plaintext cells in registry order; sector and ratio are sometimes missing."""
    random = np.random.default_rng(7)
    sector = [(*SECTORS, "")[int(index)] for index in random.integers(0, 4, ROWS)]
    ratio = [
        "" if gap else f"{value / 100:.2f}"
        for gap, value in zip(
            random.random(ROWS) < 0.1, random.integers(-100, 1_001, ROWS), strict=True
        )
    ]
    age = [
        "" if gap else int(value)
        for gap, value in zip(
            random.random(ROWS) < 0.05, random.integers(0, 1_000, ROWS), strict=True
        )
    ]
    price = [Decimal(int(value)).scaleb(-2) for value in random.integers(0, 100_000, ROWS)]
    discount = [Decimal(int(value)).scaleb(-2) for value in random.integers(0, 11, ROWS)]
    return {
        "age": list(age),
        "founded": [
            (EPOCH_DAY + timedelta(days=int(value))).isoformat()
            for value in random.integers(10_957, 20_089, ROWS)
        ],
        "lenders": [int(value) for value in random.integers(0, 4, ROWS)],
        "courts": [int(value) for value in random.integers(0, 3, ROWS)],
        "price": list(price),
        "discount": list(discount),
        "paid": [one * (1 - other) for one, other in zip(price, discount, strict=True)],
        "sector": list(sector),
        "region": [str(value) for value in random.integers(1, 3, ROWS)],
        "overdue": [int(value) for value in random.integers(0, 12, ROWS)],
        "ratio": list(ratio),
        "staff": [int(value) for value in random.integers(0, 120, ROWS)],
        "turnover": [int(value) for value in random.integers(0, 5_000_001, ROWS)],
        "debt": [int(value) for value in random.integers(0, 40_000_001, ROWS)],
        "court": [("no", "yes")[int(value)] for value in random.integers(0, 2, ROWS)],
    }


@pytest.fixture(scope="session")
def database(
    firms: dict[str, list[Cell]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same rows in a plaintext database."""
    path = tmp_path_factory.mktemp("firms") / "firms.csv"
    write_csv(path, firms)
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE firms (sector VARCHAR, region VARCHAR, overdue INTEGER, "
        "ratio DECIMAL(9, 2), staff INTEGER, turnover BIGINT, debt BIGINT, court VARCHAR, "
        "age INTEGER, founded DATE, lenders INTEGER, courts INTEGER, price DECIMAL(9, 2), "
        "discount DECIMAL(9, 2), paid DECIMAL(12, 4))"
    )
    connection.execute(
        f"INSERT INTO firms BY NAME SELECT * FROM read_csv('{path}', header = true, "
        "all_varchar = true, nullstr = '')"
    )
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def plain(schema: TableSchema, firms: dict[str, list[Cell]]) -> PlainColumns:
    return PlainColumns(schema, firms)


@pytest.fixture(scope="session")
def ids() -> Sequence[str]:
    """Enterprise ids in registry order."""
    return [f"E{row:06d}" for row in range(ROWS)]
