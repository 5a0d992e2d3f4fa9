"""A bank's table as it is kept: CSV, Parquet, Arrow or pandas, with the place of every cell."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from chainnode.he.encode import Cell
from chainnode.types.errors import ClientFault, ConfigError
from chainnode.types.limits import TABLE_ROWS_MAX


@dataclass(frozen=True)
class SourceTable:
    """Columns of cells.

    Args:
        name: the file, or what the table is called in messages.
        columns: name to one cell per row; a missing value is None.
        lines: file line of every row; empty where rows have no lines, then rows are numbered.
    """

    name: str
    columns: Mapping[str, Sequence[Cell]]
    lines: Sequence[int] = ()

    def row_count(self) -> int:
        """Rows of every column."""
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int, column: str = "") -> str:
        """Where a cell stands, for messages: file, line or row, column."""
        where = f"line {self.lines[row]}" if self.lines else f"row {row + 1}"
        return f"{self.name}, {where}" + (f", column {column}" if column else "")

    def column(self, name: str) -> Sequence[Cell]:
        """A column by name.

        Raises:
            ClientFault: `TABLE_COLUMN_MISSING` naming the file and its columns.
        """
        if name not in self.columns:
            raise ClientFault(
                "TABLE_COLUMN_MISSING",
                f"no column {name}; there are {', '.join(self.columns) or 'none'}",
                subject=self.name,
                fix=f"add the column, or rename it to {name}",
            )
        return self.columns[name]


def read_source(source: Any, name: str = "") -> SourceTable:
    """Read a table.

    Args:
        source: a path ending in .csv, .parquet or .pq; an Arrow table; a pandas frame; or a
            mapping of column name to cells.
        name: what to call a table that is no file.

    Raises:
        ClientFault: `TABLE_UNREADABLE`, naming the file and the line where there is one.
        ConfigError: `EXTRA_MISSING` for Parquet without pyarrow.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix.lower() == ".csv":
            return _read_csv(path)
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path)
        raise _unreadable(str(path), "not a .csv, .parquet or .pq file")
    if isinstance(source, Mapping):
        return _checked(name or "mapping", {str(key): source[key] for key in source})
    if hasattr(source, "column_names") and hasattr(source, "column"):
        return _from_arrow(name or "Arrow table", source)
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        columns = {str(key): source.iloc[:, at].tolist() for at, key in enumerate(source.columns)}
        if len(columns) != len(source.columns):
            raise _unreadable(name or "pandas frame", "two columns have the same name")
        return _checked(name or "pandas frame", columns)
    raise _unreadable(name or type(source).__name__, "not a table this version reads")


def _read_csv(path: Path) -> SourceTable:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows: list[list[str]] = []
            lines: list[int] = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise _unreadable(
                        str(path),
                        f"line {reader.line_num} has {len(row)} fields, the first line "
                        f"{len(header)}",
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(str(path), str(error)) from error
    if not header or len(set(header)) != len(header):
        raise _unreadable(str(path), "the first line must name every column once")
    columns = {key: [row[at] or None for row in rows] for at, key in enumerate(header)}
    return SourceTable(str(path), columns, lines)


def _read_parquet(path: Path) -> SourceTable:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise ConfigError(
            "EXTRA_MISSING",
            "reading Parquet needs pyarrow",
            subject=str(path),
            fix="pip install 'chainnode[ingest]', or export the table as CSV",
        ) from error
    try:
        return _from_arrow(str(path), read_table(path))
    except (OSError, ArrowException, ValueError) as error:
        raise _unreadable(str(path), str(error).splitlines()[0]) from error


def _from_arrow(name: str, table: Any) -> SourceTable:
    names = [str(key) for key in table.column_names]
    if len(set(names)) != len(names):
        raise _unreadable(name, "two columns have the same name")
    return _checked(name, {key: table.column(at).to_pylist() for at, key in enumerate(names)})


def _checked(name: str, columns: Mapping[str, Sequence[Any]]) -> SourceTable:
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) != 1 or max(lengths) > TABLE_ROWS_MAX:
        raise _unreadable(name, "columns are at least one, and equally long")
    read = {key: [_cell(cell) for cell in cells] for key, cells in columns.items()}
    return SourceTable(name, read)


def _cell(cell: Any) -> Cell:
    """A value as text or number; what no column can hold stays text and is refused by name."""
    if cell is None or isinstance(cell, str | Decimal):
        return cell or None if isinstance(cell, str) else cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        return cell
    if isinstance(cell, float):
        # repr is the shortest decimal that reads back as the same number.
        return None if math.isnan(cell) else repr(cell).removesuffix(".0")
    if isinstance(cell, datetime):
        return str(cell) if cell == cell else None
    if isinstance(cell, date):
        return cell.isoformat()
    text = str(cell)
    return None if text in ("NaT", "<NA>", "nan") else text


def _unreadable(name: str, reason: str) -> ClientFault:
    return ClientFault(
        "TABLE_UNREADABLE", reason, subject=name, fix="correct the file, or export it again"
    )
