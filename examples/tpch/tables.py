"""LINEITEM joined with what the queries need of ORDERS and PART, and its encrypted schema."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb

from chainnode.he.encode import Cell
from chainnode.he.planner import derived
from chainnode.he.profiles import ProfileName
from chainnode.he.schema import EPOCH_DAY, Bins, Column, Joint, OneHot, TableSchema
from chainnode.types.errors import ConfigError

OWNER = "supplier"
SHIP_EDGES = ("1994-01-01", "1995-01-01", "1995-09-01", "1995-10-01", "1998-09-03")
LIMB_BITS = 16
ALL: tuple[ProfileName, ...] = ("S36", "M")
SUMS: tuple[ProfileName, ...] = ("S36",)


def generate(folder: Path, scale: str) -> duckdb.DuckDBPyConnection:
    """Run `tpchgen-cli` and load the joined table.

    Args:
        folder: receives the Parquet files.
        scale: TPC-H scale factor; 1 is 6 million lines.

    Raises:
        ConfigError: `EXTRA_MISSING` when the generator is not installed.
    """
    beside = Path(sys.executable).with_name("tpchgen-cli")
    tool = str(beside) if beside.exists() else shutil.which("tpchgen-cli")
    if tool is None:
        raise ConfigError(
            "EXTRA_MISSING", "tpchgen-cli is not installed", fix="pip install 'chainnode[tpch]'"
        )
    command = [tool, "parquet", "-s", scale, "--tables=lineitem,orders,part"]
    subprocess.run([*command, f"--output-dir={folder}"], check=True, capture_output=True)
    connection = duckdb.connect()
    connection.execute(
        f"""
        CREATE TABLE lineitem AS SELECT l_returnflag, l_linestatus, l_shipmode, o_orderpriority,
          p_type, l_shipdate, l_receiptdate, l_quantity, l_discount, l_extendedprice, l_tax,
          CASE WHEN l_commitdate < l_receiptdate AND l_shipdate < l_commitdate THEN 'yes'
          ELSE 'no' END AS l_late
        FROM '{folder}/lineitem.parquet' JOIN '{folder}/orders.parquet' ON l_orderkey = o_orderkey
        JOIN '{folder}/part.parquet' ON l_partkey = p_partkey ORDER BY l_orderkey, l_linenumber
        """
    )
    return connection


def read(connection: duckdb.DuckDBPyConnection) -> tuple[TableSchema, dict[str, list[Cell]]]:
    """The schema and every column's cells, derived ones included."""
    names = [row[0] for row in connection.execute("DESCRIBE lineitem").fetchall()]
    rows = connection.execute("SELECT * FROM lineitem").fetchall()
    cells: dict[str, list[Cell]] = {
        name: [cell if isinstance(cell, int) else str(cell) for cell in column]
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    schema = lineitem(len(rows), cells)
    schema.validate()
    for column in schema.columns:
        if column.derived:
            cells[column.name] = list(derived.cells(column, schema, cells))
    return schema, cells


def lineitem(rows: int, cells: dict[str, list[Cell]]) -> TableSchema:
    """Categories, bins at the queries' constants, and values in cents."""
    price = "l_extendedprice * (1 - l_discount)"
    columns = (
        _category("l_returnflag", cells, SUMS),
        _category("l_linestatus", cells, SUMS),
        Column("l_shipdate", OWNER, _dates(SHIP_EDGES), profiles=ALL),
        Column("l_receiptdate", OWNER, _dates(SHIP_EDGES[:2]), profiles=ALL),
        _category("l_shipmode", cells, ALL),
        _category("l_late", cells, ALL),
        _category("o_orderpriority", cells, ALL),
        _category("p_type", cells, ALL),
        Column("l_quantity", OWNER, Bins(1, (24,), 50), 50, profiles=ALL),
        Column("l_discount", OWNER, Bins(0, (5, 8), 10, 2), 10, profiles=ALL, value_decimals=2),
        Column("l_tax", OWNER, None, 8, profiles=SUMS, value_decimals=2),
        _money("l_extendedprice", 11_000_000, 2, SUMS),
        _money("disc_price", 1_100_000_000, 4, ALL, price),
        _money("charge", 118_800_000_000, 6, SUMS, f"{price} * (1 + l_tax)"),
        _money("revenue", 110_000_000, 4, ALL, "l_extendedprice * l_discount"),
    )
    line = Joint("line", OWNER, ("l_returnflag", "l_linestatus", "l_shipdate"))
    return TableSchema("lineitem", rows, "l_id", OWNER, columns, (line,))


def _category(name: str, cells: dict[str, list[Cell]], profiles: tuple[ProfileName, ...]) -> Column:
    known = tuple(sorted({str(cell) for cell in cells[name]}))
    return Column(name, OWNER, OneHot(known), profiles=profiles)


def _money(
    name: str, maximum: int, decimals: int, profiles: tuple[ProfileName, ...], made: str = ""
) -> Column:
    return Column(
        name,
        OWNER,
        None,
        maximum,
        LIMB_BITS,
        profiles,
        decimals,
        made,
    )


def _dates(edges: tuple[str, ...]) -> Bins:
    first, last = date(1992, 1, 1), date(1999, 12, 31)
    days = [(date.fromisoformat(edge) - EPOCH_DAY).days for edge in edges]
    low, high = (first - EPOCH_DAY).days, (last - EPOCH_DAY).days
    return Bins(low, tuple(days), high, dates=True)
