"""Random schemas with rows: every encoding, several owners, missing values, joints, limbs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import duckdb

from chainnode.he.encode import Cell
from chainnode.he.planner.aggregate import band_labels
from chainnode.he.schema import Bins, Column, Digits, Joint, OneHot, TableSchema

OWNERS = ("registry", "bank-a", "tax-office")
WORDS = ("north", "south", "Trade", "services", "x%y", "it's", "7", "12", "O'Neil & co", "_")
EPOCH = date(1970, 1, 1)


@dataclass
class RandomTable:
    """A schema and plaintext rows, also in DuckDB."""

    schema: TableSchema
    cells: dict[str, list[Cell]]
    ids: Sequence[str]

    def load(self) -> duckdb.DuckDBPyConnection:
        """The rows as table, and each owner's columns as a view joined on the id."""
        connection = duckdb.connect()
        names = [column.name for column in self.schema.columns]
        kinds = [f"{column.name} {sql_type(column)}" for column in self.schema.columns]
        table = self.schema.table
        connection.execute(f"CREATE TABLE {table} (id VARCHAR, {', '.join(kinds)})")
        rows = [
            ", ".join(map(_quoted, row))
            for row in zip(self.ids, *(self.cells[name] for name in names), strict=True)
        ]
        connection.execute(f"INSERT INTO {table} VALUES ({'), ('.join(rows)})")
        for owner in self.schema.owners():
            own = [column.name for column in self.schema.columns if column.owner == owner]
            view = self.schema.part(owner)
            connection.execute(
                f"CREATE VIEW {view} AS SELECT {', '.join(['id', *own])} FROM {table}"
            )
        return connection


def _quoted(cell: Cell) -> str:
    return "NULL" if cell in (None, "") else "'" + str(cell).replace("'", "''") + "'"


def sql_type(column: Column) -> str:
    """The plaintext type whose arithmetic the encrypted column must equal."""
    encoding = column.encoding
    if isinstance(encoding, OneHot):
        return "VARCHAR"
    if isinstance(encoding, Bins | Digits) and encoding.dates:
        return "DATE"
    decimals = column.value_decimals
    if isinstance(encoding, Bins | Digits):
        decimals = encoding.decimals
    # DECIMAL throughout: products of DuckDB's INTEGER overflow where ours are exact.
    return f"DECIMAL(9, {decimals})"


def band(column: Column, numbered: bool = False) -> str:
    """What BAND(column) means in plain SQL; `numbered` gives a bin's number, to sort by."""
    encoding = column.encoding
    assert isinstance(encoding, Bins)
    bounds = encoding.bounds()
    cases = []
    labels = [f"'{label}'" for label in band_labels(encoding)]
    if numbered:
        labels = [str(index) for index in range(len(labels))]
    for label, low, high in zip(labels, bounds, bounds[1:], strict=False):
        first, last = encoding.text(low), encoding.text(high - 1)
        kind = "DATE " if encoding.dates else ""
        quote = "'" if encoding.dates else ""
        cases.append(
            f"WHEN {column.name} BETWEEN {kind}{quote}{first}{quote} "
            f"AND {kind}{quote}{last}{quote} THEN {label}"
        )
    return f"CASE {' '.join(cases)} END"


def random_table(source: random.Random, rows: int, deep: bool) -> RandomTable:
    """A table of 5 to 9 columns; `deep` stores everything in profile M too."""
    columns = [_column(source, index, deep) for index in range(source.randint(5, 9))]
    columns.append(_value(source, len(columns), deep))
    schema = TableSchema("t", rows, "id", "registry", tuple(columns), _joints(source, columns))
    schema.validate()
    cells = {column.name: [_cell(source, column) for _ in range(rows)] for column in columns}
    return RandomTable(schema, cells, [f"E{row}" for row in range(rows)])


def _profiles(deep: bool) -> tuple[str, ...]:
    return ("S36", "M") if deep else ("S36",)


def _column(source: random.Random, index: int, deep: bool) -> Column:
    kind = source.choice(["category", "bins", "bins", "digits", "value", "dates"])
    name = f"{kind[0]}{index}"
    owner = source.choice(OWNERS)
    missing = source.random() < 0.3
    profiles = _profiles(deep)
    if kind == "category":
        chosen = tuple(source.sample(WORDS, source.randint(2, 5)))
        return Column(name, owner, OneHot(chosen, missing), profiles=profiles)
    if kind == "value":
        return _value(source, index, deep)
    if kind == "dates":
        low = source.randint(8_000, 12_000)
        edges = sorted(source.sample(range(low + 1, low + 900), source.randint(1, 4)))
        bins = Bins(low, tuple(edges), low + 900, 0, missing, dates=True)
        return Column(name, owner, bins, profiles=profiles)
    decimals = source.choice([0, 0, 1, 2])
    value = {}
    if kind == "digits":
        low = source.choice([0, 0, -40])
        bits = source.randint(2, 5)
        high = low + source.randint(2, 4 ** (bits - 1) * 6)
        encoding: Bins | Digits = Digits(low, high, bits, decimals, missing)
    elif source.random() < 0.4:
        low = 0
        high = source.randint(2, 6)
        encoding = Bins(0, tuple(range(1, high + 1)), high, decimals, missing)
    else:
        low = source.choice([0, -50])
        high = low + source.randint(60, 900)
        edges = sorted(source.sample(range(low + 1, high), source.randint(1, 5)))
        encoding = Bins(low, tuple(edges), high, decimals, missing)
    if low >= 0 and source.random() < 0.6:
        value = {"value_maximum": high, "value_decimals": decimals}
    return Column(name, owner, encoding, profiles=profiles, **value)


def _value(source: random.Random, index: int, deep: bool) -> Column:
    maximum = source.choice([9, 200, 65_535, 1_000_000, 99_999_999])
    limbs = source.choice([0, 8, 16]) if maximum > 65_535 else 0
    return Column(
        f"v{index}",
        source.choice(OWNERS),
        None,
        maximum,
        value_limb_bits=limbs,
        profiles=_profiles(deep),
        value_decimals=source.choice([0, 0, 2, 3]),
    )


def _joints(source: random.Random, columns: list[Column]) -> tuple[Joint, ...]:
    joints = []
    for owner in OWNERS:
        own = [
            column.name
            for column in columns
            if column.owner == owner and isinstance(column.encoding, OneHot | Bins)
        ]
        if len(own) >= 2 and source.random() < 0.6:
            chosen = source.sample(own, source.randint(2, min(3, len(own))))
            joints.append(Joint(f"joint{len(joints)}", owner, tuple(chosen)))
    return tuple(joints)


def _cell(source: random.Random, column: Column) -> Cell:
    encoding = column.encoding
    if encoding is not None and encoding.missing and source.random() < 0.15:
        return None
    if encoding is None:
        assert column.value_maximum is not None
        top = column.value_maximum if source.random() < 0.9 else min(5, column.value_maximum)
        return Decimal(source.randint(0, top)).scaleb(-column.value_decimals)
    if isinstance(encoding, OneHot):
        return source.choice(encoding.categories)
    scaled = source.randint(encoding.minimum, encoding.maximum)
    if encoding.dates:
        return (EPOCH + timedelta(days=scaled)).isoformat()
    return Decimal(scaled).scaleb(-encoding.decimals)
